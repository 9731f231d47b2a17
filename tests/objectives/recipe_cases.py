"""What the tests of recipes share."""

import ml_collections

from configs import efficient


def dler(**parts):
  """DLER's configuration; `parts` replace whole parts."""
  objective = efficient.dler(cap=96).to_dict()
  return ml_collections.ConfigDict({'objective': objective | parts})
