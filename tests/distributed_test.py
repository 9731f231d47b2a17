"""How processes are found; what they agree on is in `mesh_run_test`."""

import numpy as np
import pytest

from lrm_jax import distributed
from lrm_jax.errors import UserError

TOLD = {
  distributed.COORDINATOR: 'host-0:8476',
  distributed.COUNT: '4',
  distributed.INDEX: '3',
}


def test_variables_of_a_launcher():
  assert distributed.stated({}) is None
  assert distributed.stated(TOLD) == ('host-0:8476', 4, 3)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({distributed.INDEX: None}, f'{distributed.INDEX} not set'),
    ({distributed.INDEX: '4'}, 'counted from 0'),
    ({distributed.COUNT: 'four'}, "'four'"),
    ({distributed.INDEX: '-1'}, "'-1'"),
  ],
)
def test_variables_that_cannot_be(changes, words):
  environment = {k: v for k, v in (TOLD | changes).items() if v is not None}
  with pytest.raises(UserError) as error:
    distributed.stated(environment)
  assert words in str(error.value)


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, False),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
    ({'TPU_WORKER_HOSTNAMES': '10.0.0.1,10.0.0.2'}, True),
    ({'SLURM_NTASKS': '1'}, False),
    ({'SLURM_NTASKS': '8'}, True),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
  ],
)
def test_launchers_that_jax_knows(environment, expected):
  assert distributed.is_cluster(environment) == expected


def test_alone_everything_is_as_it_was():
  tree = {'a': np.arange(6).reshape(3, 2), 'b': np.array([True, False, True])}
  assert distributed.count() == 1
  assert distributed.is_main()
  assert distributed.mine() == slice(None)
  for same in (
    distributed.together(tree, 3),
    distributed.whole(tree),
    distributed.of_main(tree),
  ):
    assert same is tree
  assert distributed.from_main(lambda: {'any': 'thing'}) == {'any': 'thing'}
  assert distributed.any_of(True) and not distributed.any_of(False)
  with pytest.raises(UserError, match='mistake'):
    distributed.from_main(_mistake)


def _mistake():
  raise UserError('mistake')
