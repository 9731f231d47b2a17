"""Selection of groups, one at a time."""


def dynamic_sampling_accuracy(correct):
  keep = []
  for group in correct:
    verdicts = {bool(c) for c in group}
    keep.append([verdicts == {True, False}] * len(group))
  return keep
