// An application from before OAuth. It has no users, passwords or cookies, believes whatever stands
// in front of it, and listens on loopback. The gate's story runs it as it is: see set-up-gate.ts.
import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'

const notes = []
const escapeHtml = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

const pageOf = ({ method, url, rawHeaders }) => `<!doctype html>
<title>Harbour notes</title>
<h1>Harbour notes</h1>
<ul>${notes.map((note) => `<li>${escapeHtml(note)}</li>`).join('')}</ul>
<form method="post" action="/notes">
  <label>Note <textarea name="text"></textarea></label>
  <button>Keep the note</button>
</form>
<form method="post" action="/files" enctype="multipart/form-data">
  <label>File <input type="file" name="file"></label>
  <button>Upload</button>
</form>
<pre>${escapeHtml(`${method} ${url}\n`)}${rawHeaders
  .map((text, at) => escapeHtml(at % 2 === 0 ? `${text}: ` : `${text}\n`))
  .join('')}</pre>
`

const server = createServer(async (request, response) => {
  const body = await buffer(request)
  if (request.method === 'POST' && request.url === '/notes') {
    notes.push(new URLSearchParams(body.toString()).get('text') ?? '')
    response.writeHead(303, { location: '/notes' }).end()
    return
  }
  response.setHeader('content-type', 'text/html; charset=utf-8')
  if (request.method === 'POST' && request.url === '/files') {
    response.end(`<!doctype html><title>Harbour notes</title><p>${body.length} bytes arrived.</p>`)
  } else response.end(pageOf(request))
})
server.listen(Number(process.env.PORT), '127.0.0.1', () => process.stdout.write('ready\n'))
