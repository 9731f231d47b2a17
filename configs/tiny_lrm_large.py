"""A tiny LRM of 1.6 M parameters, made like the embedded one.

  lrm sft --config=configs/tiny_lrm_large.py --workdir=runs/tiny_lrm_large

Twice the width and four times the parameters of `configs/tiny_lrm.py`, on the
same stages. Two CPU cores, about 20 minutes.
"""

from configs import tiny_lrm


def get_config():
  config = tiny_lrm.get_config()
  with config.unlocked():
    config.model.new.update(d_model=256, n_heads=8, n_kv_heads=2, d_ff=768)
    config.optimizer.learning_rate = 1e-3  # half, as the width doubles
  return config
