"""Copies of the fixtures, to be damaged."""

import shutil

import pytest

from tests.checkpoints.hf_models import FIXTURES


def copy(name, target):
  return shutil.copytree(
    FIXTURES / name, target, ignore=shutil.ignore_patterns('*.npz')
  )


@pytest.fixture
def tied(tmp_path):
  return copy('qwen2_tied', tmp_path / 'tied')


@pytest.fixture
def untied(tmp_path):
  return copy('qwen2_untied', tmp_path / 'untied')
