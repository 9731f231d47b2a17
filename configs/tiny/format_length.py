"""Format and length, no gold answer: the peak is at half the cap.

lrm train --config=configs/tiny/format_length.py --workdir=runs/format_length
"""

from configs import efficient
from configs.tiny import setting


def get_config():
  return setting.tiny(efficient.format_length(cap=96), room=96)
