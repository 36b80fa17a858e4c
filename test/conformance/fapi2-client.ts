import { randomUUID } from 'node:crypto'
import { type Answer, createPerson, post } from '../support/flow.ts'
import { makeSigningKey, type SigningKey } from '../support/jws.ts'
import type { TestServer } from '../support/server.ts'

export const redirect_uri = 'https://app.example/callback'

type Claims = Readonly<Record<string, unknown>>

export const nowS = () => Math.floor(Date.now() / 1000)

/** A client of FAPI 2.0 that signs whatever it is told: assertions, requests and proofs. */
export class Fapi2Client {
  readonly key = makeSigningKey()
  readonly server: TestServer
  readonly id: string

  constructor(server: TestServer, id: string = randomUUID()) {
    this.server = server
    this.id = id
  }

  async register(changes: object = {}): Promise<this> {
    await this.server.addClient({
      client_id: this.id,
      application_type: 'web',
      redirect_uris: [redirect_uri],
      token_endpoint_auth_method: 'private_key_jwt',
      jwks: { keys: [{ ...this.key.jwk, kid: 'a' }] },
      ...changes,
    } as object)
    return this
  }

  /** RFC 7523, as FAPI 2.0 section 5.3.2.1 wants it. */
  assertion(claims: Claims = {}, header: Claims = {}, key = this.key): Record<string, string> {
    const registered = { iss: this.id, sub: this.id, aud: this.server.issuer, exp: nowS() + 60 }
    return {
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: key.sign(header, { ...registered, jti: randomUUID(), ...claims }),
    }
  }

  /** The parameter of a signed authentication request (CIBA Core section 7.1.1). */
  authenticationRequest(claims: Claims = {}, header: Claims = {}): { request: string } {
    const times = { iat: nowS(), nbf: nowS(), exp: nowS() + 300 }
    const names = { iss: this.id, aud: this.server.issuer, jti: randomUUID(), scope: 'openid' }
    return { request: this.key.sign({ kid: 'a', ...header }, { ...names, ...times, ...claims }) }
  }

  proof(path: string, claims: Claims = {}, { jwk, sign }: SigningKey = this.key): string {
    const times = { iat: nowS(), jti: randomUUID() }
    const target = { htm: 'POST', htu: this.server.issuer + path }
    return sign({ typ: 'dpop+jwt', jwk }, { ...target, ...times, ...claims })
  }

  /** The parameters of an authorization request. */
  request(changes: Record<string, string> = {}): Record<string, string> {
    return {
      client_id: this.id,
      response_type: 'code',
      redirect_uri,
      scope: 'openid',
      state: 'the state',
      code_challenge: 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM',
      code_challenge_method: 'S256',
      ...changes,
    }
  }

  /** The same as a request object (FAPI 2.0 Message Signing section 5.3.2). */
  requestObject(claims: Claims = {}, header: Claims = {}): Record<string, string> {
    const times = { nbf: nowS(), exp: nowS() + 300 }
    const names = { iss: this.id, aud: this.server.issuer }
    const typ = 'oauth-authz-req+jwt'
    return {
      client_id: this.id,
      request: this.key.sign(
        { typ, kid: 'a', ...header },
        { ...this.request(), ...names, ...times, ...claims },
      ),
    }
  }

  /** Posts with a proof, and authenticates unless `parameters` do. */
  post(
    path: string,
    parameters: Record<string, string>,
    proof = this.proof(path),
  ): Promise<Answer> {
    const authenticated = 'client_assertion' in parameters ? {} : this.assertion()
    return post(this.server, path, { ...authenticated, ...parameters }, { proof })
  }

  push(parameters: Record<string, string> = this.request(), proof?: string): Promise<Answer> {
    return this.post('/par', parameters, proof)
  }

  /** Pushes a request, has a person allow it, and returns where the browser was sent. */
  async authorize(parameters: Record<string, string> = this.request()): Promise<URL> {
    const { body } = await this.push(parameters)
    const { request_uri } = body
    if (!request_uri) throw new Error(`the request was not taken: ${JSON.stringify(body)}`)
    return createPerson(this.server).authorize({ client_id: this.id, request_uri, redirect_uri })
  }

  /** The tokens of a person. */
  async signIn(changes: Record<string, string> = {}): Promise<Answer['body']> {
    const consent = changes.scope?.includes('offline_access') ? { prompt: 'consent' } : {}
    const { searchParams } = await this.authorize(this.request({ ...consent, ...changes }))
    const code = searchParams.get('code') ?? ''
    return (await this.post('/token', { ...this.redeeming, code })).body
  }

  /** What goes with a code. */
  readonly redeeming = {
    grant_type: 'authorization_code',
    redirect_uri,
    code_verifier: 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk',
  }
}
