"""A browser, for all tests of pages."""

import pytest

from tests import browser


@pytest.fixture(scope='session')
def chromium():
  """Headless; its tests are skipped where none is installed."""
  if browser.find() is None:
    pytest.skip('needs a Chromium: apt-get install chromium (.ci/run does)')
  with browser.Browser() as found:
    yield found
