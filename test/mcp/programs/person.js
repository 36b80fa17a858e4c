/** The person at the browser: the one who runs this program takes them there, and brings them back. */
import { once } from 'node:events'

/** Opens an address, and gives the parameters that come back to the redirect URI. */
export async function authorizeInBrowser(url) {
  if (process.env.PERSON === 'none') {
    const { headers } = await fetch(url, { redirect: 'manual' })
    return new URL(headers.get('location')).searchParams
  }
  process.stdout.write(`OPEN ${url}\n`)
  const [line] = await once(process.stdin, 'data')
  return new URL(String(line).trim()).searchParams
}

const redirectUrl = process.env.REDIRECT_URI ?? 'http://localhost:3118/callback'

/** What an agent keeps, in memory: nothing of it was written by hand. */
export function agentProvider(more = {}) {
  const kept = {}
  return {
    kept,
    redirectUrl,
    clientMetadataUrl: process.env.CLIENT_METADATA_URL,
    clientMetadata: {
      client_name: 'Agent',
      redirect_uris: [redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    },
    clientInformation: () => kept.client,
    saveClientInformation: (client) => {
      kept.client = client
    },
    tokens: () => kept.tokens,
    saveTokens: (tokens) => {
      kept.tokens = tokens
    },
    saveCodeVerifier: (verifier) => {
      kept.verifier = verifier
    },
    codeVerifier: () => kept.verifier,
    redirectToAuthorization: (url) => {
      kept.authorization = url
    },
    ...more,
  }
}

/** Says what has come of it, for the script that has started this program. */
export function report({ kept }, result) {
  const { client, tokens, authorization } = kept
  const asked = Object.fromEntries(authorization.searchParams)
  const said = {
    clientId: client.client_id,
    resource: asked.resource,
    scope: asked.scope,
    challenge: asked.code_challenge_method,
    tokenType: tokens.token_type,
    text: result.content?.[0]?.text,
  }
  process.stdout.write(`DONE ${JSON.stringify(said)}\n`)
  process.exit(0)
}
