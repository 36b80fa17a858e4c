// app/notes/route.js of a Next application
import { createVerifier } from '@holdfast/verify'
import { fetchVerify } from '@holdfast/verify/fetch'

const verifier = createVerifier({ issuer: 'https://as.example', audience: 'https://api.example' })
const verify = fetchVerify(verifier)

export async function GET(request) {
  const { response, auth } = await verify(request, { scopes: ['notes:read'] })
  return response ?? Response.json(auth.claims)
}
