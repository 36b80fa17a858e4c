const { IndexedDbDPoPStore, UserManager } = window.oidc
const settings = await (await fetch('/settings.json')).json()
const manager = new UserManager({
  ...settings,
  scope: 'openid email',
  post_logout_redirect_uri: `${location.origin}/bye`,
  dpop: { store: new IndexedDbDPoPStore(), bind_authorization_code: true },
})

const places = {
  '/login': () => manager.signinRedirect(),
  '/bye': () => ({}),
  '/logout': () => manager.signoutRedirect(),
  '/callback': async () => {
    await manager.signinRedirectCallback()
    location.assign('/user')
  },
  '/user': async () => {
    // The library's own `loadUserInfo` sends no proof.
    const user = await manager.getUser()
    const url = await manager.metadataService.getUserInfoEndpoint()
    const headers = {
      authorization: `DPoP ${user.access_token}`,
      dpop: await manager.dpopProof(url, user, 'GET'),
    }
    return (await fetch(url, { headers })).json()
  },
  '/refresh': async () => {
    const { access_token } = await manager.signinSilent()
    return { access_token }
  },
}
const failed = ({ message: error }) => ({ error })
const shown = await Promise.resolve(places[location.pathname]?.()).catch(failed)
if (shown !== undefined) document.querySelector('pre').textContent = JSON.stringify(shown)
