// A single-page application. Its key cannot be read, not even by a script in its own page.
import * as oauth from './oauth4webapi.js'

const { ISSUER, API, CLIENT_ID } = await (await fetch('/settings.json')).json()
const redirect_uri = `${location.origin}/`
const client = { client_id: CLIENT_ID }
const clientAuth = oauth.None()
const issuer = new URL(ISSUER)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer))

async function signIn() {
  // IndexedDB stores a key pair that is not extractable as it is.
  const keys = await oauth.generateKeyPair('ES256', { extractable: false })
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  await remember({ keys, verifier, state })
  const url = new URL(as.authorization_endpoint)
  url.search = new URLSearchParams({
    client_id: CLIENT_ID,
    response_type: 'code',
    redirect_uri,
    scope: 'openid read',
    resource: API,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    dpop_jkt: await oauth.DPoP(client, keys).calculateThumbprint(),
    state,
  })
  location.assign(url)
}

async function finish() {
  const { keys, verifier, state } = await recall()
  const DPoP = oauth.DPoP(client, keys)
  const callback = oauth.validateAuthResponse(as, client, new URL(location.href), state)
  history.replaceState(null, '', '/')
  const response = await oauth.authorizationCodeGrantRequest(
    as,
    client,
    clientAuth,
    callback,
    redirect_uri,
    verifier,
    { DPoP, additionalParameters: { resource: API } },
  )
  const { access_token } = await oauth.processAuthorizationCodeResponse(as, client, response)
  const url = new URL('/orders', API)
  const headers = new Headers()
  const answer = await oauth.protectedResourceRequest(access_token, 'GET', url, headers, null, {
    DPoP,
  })
  document.querySelector('output').textContent = await answer.text()
}

const remember = (value) => inStore('readwrite', (store) => store.put(value, 'sign-in'))
const recall = () => inStore('readonly', (store) => store.get('sign-in'))

function inStore(mode, work) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open('app', 1)
    opening.onupgradeneeded = () => opening.result.createObjectStore('state')
    opening.onerror = () => reject(opening.error)
    opening.onsuccess = () => {
      const request = work(opening.result.transaction('state', mode).objectStore('state'))
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    }
  })
}

document.querySelector('button').addEventListener('click', signIn)
if (new URLSearchParams(location.search).has('state')) await finish()
