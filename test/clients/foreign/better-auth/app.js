import { betterAuth } from 'better-auth'
import { toNodeHandler } from 'better-auth/node'
import { genericOAuth } from 'better-auth/plugins'
import express from 'express'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, BASE, PORT } = process.env
const auth = betterAuth({
  baseURL: BASE,
  secret: 'a secret of at least thirty-two characters',
  plugins: [
    genericOAuth({
      config: [
        {
          providerId: 'holdfast',
          discoveryUrl: `${ISSUER}/.well-known/openid-configuration`,
          clientId: CLIENT_ID,
          clientSecret: CLIENT_SECRET,
          scopes: ['openid', 'email', 'profile'],
          pkce: true,
        },
      ],
    }),
  ],
})

const app = express()
app.all('/api/auth/*path', toNodeHandler(auth))
app.get('/login', async (_req, res) => {
  const { response, headers } = await auth.api.signInSocial({
    body: { provider: 'holdfast', callbackURL: '/user' },
    returnHeaders: true,
  })
  res.set('set-cookie', headers.getSetCookie()).redirect(response.url)
})
app.get('/user', async (req, res) => {
  res.json((await auth.api.getSession({ headers: new Headers(req.headers) })) ?? {})
})
app.get('/refresh', async (req, res) => {
  const headers = new Headers(req.headers)
  const [{ id: accountId }] = await auth.api.listUserAccounts({ headers })
  const { accessToken } = await auth.api.refreshToken({ body: { accountId }, headers })
  res.json({ accessToken })
})
app.get('/logout', async (req, res) => {
  const { response, headers } = await auth.api.signOut({
    body: { callbackURL: '/bye', disableRedirect: true },
    headers: new Headers(req.headers),
    returnHeaders: true,
  })
  res.set('set-cookie', headers.getSetCookie()).redirect(response.url)
})
app.get('/bye', (_req, res) => res.json({}))
app.listen(PORT, 'localhost')
