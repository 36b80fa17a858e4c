import { ExpressAuth, getSession } from '@auth/express'
import express from 'express'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, PORT } = process.env
const config = {
  trustHost: true,
  secret: 'a secret of at least thirty-two characters',
  providers: [
    {
      id: 'holdfast',
      name: 'Holdfast',
      type: 'oidc',
      issuer: ISSUER,
      clientId: CLIENT_ID,
      clientSecret: CLIENT_SECRET,
      checks: ['pkce', 'state'],
      // The ID token has no email address: the server gives it at userinfo.
      idToken: false,
    },
  ],
}

const app = express()
app.use('/auth', ExpressAuth(config))
app.get('/login', (_req, res) => res.redirect('/auth/signin?callbackUrl=/user'))
app.get('/user', async (req, res) => {
  const session = await getSession(req, config)
  res.json(session?.user ?? {})
})
app.listen(PORT, 'localhost')
