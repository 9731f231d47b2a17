"""A stand-in for Google Cloud Storage: its JSON API over HTTP, in this process.

gcsfs (what etils.epath opens gs:// with), TensorStore (the arrays of
checkpoints) and google-cloud-storage all talk to it. It has what the API has:
objects that are written whole. There is no copying, hence no renaming, and no
appending: whoever tries gets an error.
"""

import base64
import contextlib
import hashlib
import http.server
import itertools
import json
import os
import re
import sys
import threading
import urllib.parse
from collections.abc import Iterator

BUCKET = 'bucket'
# Somebody else's.
FORBIDDEN = 'forbidden'
# Of one page of a list; the API's own limit is a thousand.
PAGE = 20
OBJECTS = f'/storage/v1/b/{BUCKET}/o'
UPLOADS = f'/upload/storage/v1/b/{BUCKET}/o'


class Store:
  """One bucket.

  Attributes:
    objects: name -> (generation, content).
    writes: names in the order in which they were written.
  """

  def __init__(self):
    self.objects: dict[str, tuple[int, bytes]] = {}
    self.writes: list[str] = []
    self.begun: dict[str, tuple[str, bytearray]] = {}
    self._generations = itertools.count(1)
    self.lock = threading.Lock()

  def put(self, name: str, content: bytes) -> dict:
    with self.lock:
      self.objects[name] = next(self._generations), content
      self.writes.append(name)
    return self.describe(name)

  def describe(self, name: str) -> dict:
    generation, content = self.objects[name]
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()
    return {
      'kind': 'storage#object',
      'bucket': BUCKET,
      'name': name,
      'size': str(len(content)),
      'generation': str(generation),
      'metageneration': '1',
      'md5Hash': digest,
      'timeCreated': '2026-01-01T00:00:00.000Z',
      'updated': '2026-01-01T00:00:00.000Z',
    }

  def names(self, folder: str = '') -> list[str]:
    """Of the objects in a folder, relative to it, sorted."""
    return sorted(
      name.removeprefix(folder)
      for name in self.objects
      if name.startswith(folder)
    )

  def read(self, name: str) -> bytes:
    return self.objects[name][1]

  def list(self, query: dict[str, str]) -> dict:
    """A page of the objects, and of the folders if there is a delimiter."""
    prefix = query.get('prefix', '')
    first = max(query.get('startOffset', ''), query.get('pageToken', ''))
    end = query.get('endOffset', '')
    # An empty one is none.
    delimiter = {'': '\0'}.get(query.get('delimiter', ''), '/')
    found: dict[str, bool] = {}
    for name in self.names():
      rest = name.removeprefix(prefix)
      if not name.startswith(prefix) or name < first or (end and name >= end):
        continue
      head, slash, _ = rest.partition(delimiter)
      found[prefix + head + slash] = bool(slash)
    size = min(PAGE, int(query.get('maxResults', PAGE)))
    page = list(found)[:size]
    answer = {
      'kind': 'storage#objects',
      'items': [self.describe(name) for name in page if not found[name]],
      'prefixes': [name for name in page if found[name]],
    }
    if len(found) > size:
      answer['nextPageToken'] = list(found)[size]
    return answer


class Handler(http.server.BaseHTTPRequestHandler):
  """Requests of the JSON API."""

  protocol_version = 'HTTP/1.1'
  # An answer in one packet: the second of two would wait for 40 ms.
  wbufsize = -1
  store: Store

  def log_message(self, *_) -> None:
    pass

  def answer(self, code: int, body: bytes | dict = b'', **headers) -> None:
    if isinstance(body, dict):
      body = json.dumps(body).encode()
      headers['Content_Type'] = 'application/json'
    self.send_response(code)
    for name, value in headers.items():
      self.send_header(name.replace('_', '-'), value)
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def fail(self, code: int, message: str) -> None:
    if f'/b/{FORBIDDEN}/' in self.path:
      code, message = 403, 'not yours'
    self.answer(code, {'error': {'code': code, 'message': message}})

  def parse(self) -> tuple[str, str | None, dict[str, str], bytes]:
    """(path up to the object, its name, the query, the body)."""
    url = urllib.parse.urlsplit(self.path)
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
    path, name = url.path.removeprefix('/download'), None
    if path.startswith(f'{OBJECTS}/'):
      name = urllib.parse.unquote(path.removeprefix(f'{OBJECTS}/'))
      path = OBJECTS
    return path, name, query, body

  def do_GET(self) -> None:
    path, name, query, _ = self.parse()
    if path == f'/storage/v1/b/{BUCKET}':
      self.answer(200, {'kind': 'storage#bucket', 'name': BUCKET})
    elif path != OBJECTS:
      self.fail(404, path)
    elif name is None:
      self.answer(200, self.store.list(query))
    elif name not in self.store.objects:
      self.fail(404, 'No such object')
    elif query.get('alt') != 'media':
      self.answer(200, self.store.describe(name))
    else:
      self.content(name)

  def content(self, name: str) -> None:
    generation, content = self.store.objects[name]
    size = len(content)
    headers = {
      'X_Goog_Generation': str(generation),
      'X_Goog_Stored_Content_Length': str(size),
    }
    wanted = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
    if wanted is None:
      return self.answer(200, content, **headers)
    start = int(wanted[1])
    stop = min(size, int(wanted[2]) + 1) if wanted[2] else size
    if start >= size:
      return self.answer(416)
    headers['Content_Range'] = f'bytes {start}-{stop - 1}/{size}'
    return self.answer(206, content[start:stop], **headers)

  def do_POST(self) -> None:
    path, _, query, body = self.parse()
    if path != UPLOADS:
      self.fail(405 if path == OBJECTS else 404, f'POST {path}')
    elif 'upload_id' in query:
      self.resume(query['upload_id'], body)
    elif query['uploadType'] == 'media':
      self.answer(200, self.store.put(query['name'], body))
    elif query['uploadType'] == 'resumable':
      identity = str(len(self.store.begun))
      name = query.get('name', json.loads(body).get('name'))
      self.store.begun[identity] = name, bytearray()
      place = f'http://{self.headers["Host"]}{UPLOADS}?upload_id={identity}'
      self.answer(200, Location=place)
    else:
      boundary = (
        b'--'
        + re.search('boundary="?([^";]+)', self.headers['Content-Type'])[
          1
        ].encode()
      )
      _, about, content, _ = body.split(boundary, 3)
      name = json.loads(about.strip().split(b'\n\n', 1)[1])['name']
      content = re.split(b'\r?\n\r?\n', content, maxsplit=1)[1]
      self.answer(200, self.store.put(name, content.removesuffix(b'\n')))

  do_PUT = do_POST

  def resume(self, identity: str, body: bytes) -> None:
    """A chunk of an object; it appears with the last one."""
    name, content = self.store.begun[identity]
    content += body
    if self.headers['Content-Range'].endswith('/*'):
      self.answer(308, Range=f'bytes=0-{len(content) - 1}')
    else:
      self.answer(200, self.store.put(name, bytes(content)))

  def do_DELETE(self) -> None:
    _, name, _, _ = self.parse()
    if self.store.objects.pop(name, None) is None:
      self.fail(404, 'No such object')
    else:
      self.answer(204)


class Server(http.server.ThreadingHTTPServer):
  """Many requests at once."""

  daemon_threads = True

  def handle_error(self, *_) -> None:
    """Who asks two questions at once hangs up on the second answer."""
    if not isinstance(sys.exception(), ConnectionError):
      super().handle_error(*_)


@contextlib.contextmanager
def serve() -> Iterator[Store]:
  """An empty bucket at gs://bucket, for all clients of this process."""
  store = Store()
  handler = type('BucketHandler', (Handler,), {'store': store})
  server = Server(('127.0.0.1', 0), handler)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  address = f'http://127.0.0.1:{server.server_port}'
  variables = {
    'STORAGE_EMULATOR_HOST': address,
    'TENSORSTORE_GCS_HTTP_URL': address,
    # Nobody looks for credentials, on this machine or in the network.
    'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',
    'NO_GCE_CHECK': 'true',
    'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
  }
  before = {name: os.environ.get(name) for name in variables}
  os.environ.update(variables)
  try:
    yield store
  finally:
    for name, value in before.items():
      os.environ.pop(name)
      if value is not None:
        os.environ[name] = value
    server.shutdown()
    server.server_close()
