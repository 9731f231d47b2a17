"""Targets that nobody draws, one problem at a time."""


def no_target(problems, cap):
  return [0 for _ in range(problems)]


def cap_target(problems, cap):
  return [cap for _ in range(problems)]


def share_of_cap(problems, cap, times, room):
  budget = 1
  while times * (budget + 1) + room <= cap:
    budget += 1
  return [budget for _ in range(problems)]
