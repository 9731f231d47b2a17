"""Headless Chromium, driven over its own pipe; the standard library is enough.

A browser takes commands of the DevTools protocol on file descriptor 3 and
answers on 4, each a JSON object with a NUL behind it. The libraries that do
this weigh 168 MB (playwright, with a Node of its own) and 69 MB (selenium, with
Debian's chromium-driver), and need the versions of driver and browser to fit.

  with browser.Browser() as chromium:
    page = chromium.open('file:///...')
    page.evaluate('document.title')
"""

import base64
import contextlib
import json
import os
import pathlib
import selectors
import shutil
import subprocess
import tempfile
import time

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
# Seconds for the answer to a command.
PATIENCE = 60
KEYS = {
  'Enter': 13,
  'Escape': 27,
  'Tab': 9,
  'ArrowDown': 40,
  'ArrowUp': 38,
  'ArrowLeft': 37,
  'ArrowRight': 39,
  'End': 35,
  'Home': 36,
}
PHONE = {'width': 360, 'height': 740, 'deviceScaleFactor': 2, 'mobile': True}
DESK = {'width': 1280, 'height': 900, 'deviceScaleFactor': 1, 'mobile': False}


def find():
  """The program, or None where no Chromium is installed."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """A browser with a profile of its own, which is removed at the end."""

  def __init__(self):
    """It runs from here on."""
    self._stack = contextlib.ExitStack()
    profile = self._stack.enter_context(
      tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    )
    to_read, self._out = os.pipe()
    self._in, to_write = os.pipe()
    # The shell gives the pipes the numbers that the browser knows.
    command = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
    options = ['--headless', '--no-sandbox', '--disable-gpu', '--mute-audio']
    options += ['--remote-debugging-pipe', f'--user-data-dir={profile}']
    options += ['--no-first-run', '--disable-dev-shm-usage']
    options += ['--disable-background-networking', '--hide-scrollbars']
    self._process = subprocess.Popen(
      ['bash', '-c', command, find(), *options, 'about:blank'],
      pass_fds=(to_read, to_write),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    self._selector = selectors.DefaultSelector()
    self._selector.register(self._in, selectors.EVENT_READ)
    self._rest, self._number = b'', 0
    self.events = []

  def open(self, address, size=DESK, **media):
    """A new tab with that page, loaded.

    Args:
      address: of the page.
      size: of the screen.
      **media: features, such as prefers_color_scheme='dark'.
    """
    target = self.call('Target.createTarget', url='about:blank')
    found = self.call(
      'Target.attachToTarget', targetId=target['targetId'], flatten=True
    )
    page = Page(self, found['sessionId'], target['targetId'])
    for domain in ('Page', 'Runtime', 'Network', 'Log', 'Performance'):
      page.call(f'{domain}.enable')
    page.call('Emulation.setDeviceMetricsOverride', **size)
    features = [
      {'name': name.replace('_', '-'), 'value': value}
      for name, value in media.items()
    ]
    page.call('Emulation.setEmulatedMedia', features=features)
    page.go(address)
    return page

  def call(self, method, session=None, **parameters):
    """Sends a command and waits for its answer."""
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': parameters}
    if session is not None:
      message['sessionId'] = session
    data = json.dumps(message).encode() + b'\0'
    while data:
      data = data[os.write(self._out, data) :]
    deadline = time.monotonic() + PATIENCE
    while True:
      found = self.receive(deadline)
      if 'id' not in found:
        self.events.append(found)
      elif found['id'] == self._number:
        if 'error' in found:
          raise RuntimeError(f'{method}: {found["error"]}')
        return found['result']

  def receive(self, deadline):
    """The next message."""
    while b'\0' not in self._rest:
      if not self._selector.select(max(0, deadline - time.monotonic())):
        raise TimeoutError('no answer from the browser')
      data = os.read(self._in, 1 << 20)
      if not data:
        raise RuntimeError('the browser has ended')
      self._rest += data
    message, _, self._rest = self._rest.partition(b'\0')
    return json.loads(message)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    with contextlib.suppress(Exception):
      self.call('Browser.close')
    try:
      self._process.wait(20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._in)
    os.close(self._out)
    self._stack.close()


class Page:
  """A tab."""

  def __init__(self, browser, session, target):
    """See `Browser.open`."""
    self._browser = browser
    self._session = session
    self._target = target

  def call(self, method, **parameters):
    """A command to this tab."""
    return self._browser.call(method, self._session, **parameters)

  def go(self, address):
    """Loads an address, and waits until its scripts have run."""
    self.call('Page.navigate', url=address)
    self.until("document.readyState === 'complete'")

  def evaluate(self, expression):
    """The value of an expression; of a promise what it becomes."""
    found = self.call(
      'Runtime.evaluate',
      expression=expression,
      awaitPromise=True,
      returnByValue=True,
    )
    if 'exceptionDetails' in found:
      raise RuntimeError(json.dumps(found['exceptionDetails'])[:2000])
    result = found['result']
    return result['value'] if 'value' in result else None

  def until(self, expression, patience=20):
    """Waits until an expression is true."""
    deadline = time.monotonic() + patience
    while not self.evaluate(expression):
      if time.monotonic() > deadline:
        raise TimeoutError(f'never true: {expression}')
      time.sleep(0.02)

  def wait_for(self, expression, expected):
    """Waits until an expression has a value."""
    self.until(f'({expression}) === {json.dumps(expected)}')

  def texts(self, selector):
    """The texts of all elements of a selector."""
    return self.evaluate(
      f'Array.from(document.querySelectorAll({json.dumps(selector)}), '
      '(e) => e.textContent)'
    )

  def press(self, *keys):
    """Presses keys, one behind the other."""
    for key in keys:
      more = {'key': key}
      if len(key) == 1:
        more |= {'text': key}
      else:
        more |= {'windowsVirtualKeyCode': KEYS[key], 'code': key}
        more |= {'text': '\r'} if key == 'Enter' else {}
      self.call('Input.dispatchKeyEvent', type='keyDown', **more)
      more.pop('text', None)
      self.call('Input.dispatchKeyEvent', type='keyUp', **more)

  def screenshot(self, path):
    """A picture of what is on the screen, as a PNG."""
    found = self.call('Page.captureScreenshot', format='png')
    pathlib.Path(path).write_bytes(base64.b64decode(found['data']))

  def events(self, method):
    """What has been told of a kind since the tab was opened."""
    return [
      event['params']
      for event in self._browser.events
      if event['method'] == method and event['sessionId'] == self._session
    ]

  def close(self):
    """Closes the tab."""
    self._browser.call('Target.closeTarget', targetId=self._target)
