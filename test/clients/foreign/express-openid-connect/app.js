import express from 'express'
import eoc from 'express-openid-connect'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, BASE, PORT } = process.env
const app = express()
app.use(
  eoc.auth({
    issuerBaseURL: ISSUER,
    baseURL: BASE,
    clientID: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    secret: 'a secret of at least thirty-two characters',
    authRequired: false,
    idpLogout: true,
    authorizationParams: { response_type: 'code', scope: 'openid email offline_access' },
  }),
)
app.get('/', (_req, res) => res.json({}))
app.get('/user', eoc.requiresAuth(), async (req, res) => {
  res.json(await req.oidc.fetchUserInfo())
})
app.get('/refresh', eoc.requiresAuth(), async (req, res) => {
  const { access_token } = await req.oidc.accessToken.refresh()
  res.json({ access_token })
})
app.listen(PORT, 'localhost')
