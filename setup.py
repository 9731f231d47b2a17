"""lrm_jax: train large reasoning models to think in fewer tokens."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
  r"__version__ = '(.+)'", (ROOT / 'lrm_jax' / '__init__.py').read_text()
)[1]

setuptools.setup(
  name='lrm_jax',
  version=VERSION,
  description='Train large reasoning models to think in fewer tokens, in JAX.',
  long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['lrm_jax', 'lrm_jax.*']),
  package_data={
    'lrm_jax': [
      *('assets/*/*', 'assets/*/*/*', 'data/builders/checksums.tsv'),
      'reporting/page/*',
    ],
  },
  python_requires='>=3.11,<3.14',
  install_requires=[
    'absl-py',
    'array_record',
    'etils[epath]',
    'flax>=0.12.8',
    'grain>=0.2.18',
    'jax>=0.10.0',
    'jinja2',
    'latex2sympy2_extended[antlr4_13_2]',
    'matplotlib',
    'math-verify>=0.9',
    'ml-collections>=1.1',
    'numpy',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.12.8',
    'rich',
    'safetensors',
    'scipy',
    'sentencepiece>=0.2',
    'tensorboardX',
    'tensorflow-datasets>=4.9.10',
    'tokenizers',
  ],
  extras_require={
    'test': [
      'etils[epath-gcs]',
      'hypothesis',
      'ipykernel',  # The notebooks are run.
      'jax[tpu]',
      'nbclient',
      'pytest',
      'pytest-xdist',
      'ruff',
    ],
    # Workdirs in Google Cloud Storage.
    'gcs': ['etils[epath-gcs]'],
    'tpu': ['jax[tpu]'],
    'plan': ['jax[tpu]'],  # the compiler alone; no chip need be there
    'cuda': ['jax[cuda12]'],
    # Another version makes other problems.
    'gym': ['reasoning-gym==0.1.25'],
    'bench': ['google-tunix', 'torch', 'transformers', 'trl'],
    'colab': ['ipykernel', 'ipywidgets', 'nbclient'],
    'wandb': ['wandb'],
  },
  entry_points={'console_scripts': ['lrm = lrm_jax.main:cli']},
)
