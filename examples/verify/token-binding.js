// Token Binding at an API and at a relying party; docs/token-binding.md shows parts of this file.
import { createIdTokenVerifier, createVerifier } from '@holdfast/verify'
import { createTokenBindingVerifier, fieldValues } from '@holdfast/verify/token-binding'
import { beginTokenBoundLogin, finishTokenBoundLogin } from '@holdfast/verify/token-binding-login'

export function verifyRequest(connection, request, { issuer, audience }) {
  // One for each TLS connection, made of what was negotiated there.
  const verifyForThisConnection = createTokenBindingVerifier(connection)
  const verifier = createVerifier({ issuer, audience, tokenLocations: ['header', 'body', 'query'] })
  const proof = verifyForThisConnection(fieldValues(request.rawHeaders, 'sec-token-binding'))
  const tokenBinding = proof && { providedId: Buffer.from(proof.provided.id, 'base64url') }
  const { method, url, rawHeaders } = request
  return verifier.verify({ method, url, headers: rawHeaders, tokenBinding })
}

export function beginLogin(proof, response, authorizationUrl) {
  // `proof` is what the browser has proven on this connection.
  const { browserId, headers, parameters } = beginTokenBoundLogin(proof)
  response.writeHead(303, { ...headers, location: authorizationUrl(parameters) }).end()
  return browserId // keep it with state and nonce
}

export async function finishLogin(browserId, proof, redeem, { issuer, clientId, nonce }) {
  const { verifyIdToken } = createIdTokenVerifier({ issuer, clientId })
  const { codeVerifier, tokenBinding } = finishTokenBoundLogin(browserId, proof)
  const { id_token } = await redeem(codeVerifier)
  return verifyIdToken(id_token, { nonce, tokenBinding })
}
