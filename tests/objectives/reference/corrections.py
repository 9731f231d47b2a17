"""Corrections in float64 loops."""

import math

import numpy as np


def _ratios(old_logp, sampler_logp, mask):
  ratio, product = np.ones(np.shape(mask)), np.ones(np.shape(mask)[:2])
  for b, g, t in np.argwhere(mask):
    ratio[b, g, t] = math.exp(float(old_logp[b, g, t] - sampler_logp[b, g, t]))
    product[b, g] *= ratio[b, g, t]
  return ratio, product[..., None] * np.ones(np.shape(mask))


def uncorrected(old_logp, sampler_logp, mask):
  return np.ones(np.shape(mask)), mask


def token_truncated(old_logp, sampler_logp, mask, cap):
  return np.minimum(_ratios(old_logp, sampler_logp, mask)[0], cap), mask


def sequence_truncated(old_logp, sampler_logp, mask, cap):
  return np.minimum(_ratios(old_logp, sampler_logp, mask)[1], cap), mask


def token_masked(old_logp, sampler_logp, mask, low, high):
  ratio, _ = _ratios(old_logp, sampler_logp, mask)
  return ratio, mask * ((ratio >= low) & (ratio <= high))


def sequence_masked(old_logp, sampler_logp, mask, cap):
  _, product = _ratios(old_logp, sampler_logp, mask)
  return product, mask * (product <= cap)
