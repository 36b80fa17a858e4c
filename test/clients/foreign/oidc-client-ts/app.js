import express from 'express'

const { ISSUER, CLIENT_ID, BASE, PORT } = process.env
const app = express()
app.get('/settings.json', (_req, res) => {
  res.json({ authority: ISSUER, client_id: CLIENT_ID, redirect_uri: `${BASE}/callback` })
})
app.use('/library', express.static('node_modules/oidc-client-ts/dist/browser'))
app.use('/page.js', express.static('page.js'))
app.use((_req, res) => {
  res.send(`<!doctype html><title>App</title><pre></pre>
    <script src="/library/oidc-client-ts.min.js"></script>
    <script type="module" src="/page.js"></script>`)
})
app.listen(PORT, 'localhost')
