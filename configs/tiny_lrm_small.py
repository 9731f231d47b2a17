"""A tiny LRM of 0.1 M parameters, made like the embedded one.

  lrm sft --config=configs/tiny_lrm_small.py --workdir=runs/tiny_lrm_small

Half the width and a fourth of the parameters of `configs/tiny_lrm.py`, on the
same stages. Two CPU cores, about 6 minutes.
"""

from configs import tiny_lrm


def get_config():
  config = tiny_lrm.get_config()
  with config.unlocked():
    config.model.new.update(d_model=64, n_heads=2, d_ff=192)
  return config
