"""Selection of groups, one at a time."""


def all_groups(reward):
  return [[True for _ in group] for group in reward]


def dynamic_sampling(reward):
  keep = []
  for group in reward:
    differs = False
    for r in group:
      differs = differs or r != group[0]
    keep.append([differs] * len(group))
  return keep


def dynamic_sampling_accuracy(correct):
  keep = []
  for group in correct:
    verdicts = {bool(c) for c in group}
    keep.append([verdicts == {True, False}] * len(group))
  return keep
