/**
 * JARM with encryption (JWT Secured Authorization Response Mode section 3): an authorization response
 * that is signed, and then encrypted to a key of its client. The engine's encryption is for that alone:
 * tokens, UserInfo, introspection and request objects are not encrypted.
 */
import type { Context } from 'koa'
import type { Configuration } from 'oidc-provider'
import type { Extension } from './extension.ts'

/** To a key of the client: a secret of which only a digest is stored encrypts nothing. */
export const encryptionAlgorithms: Partial<NonNullable<Configuration['enabledJWA']>> = {
  authorizationEncryptionAlgValues: ['RSA-OAEP-256', 'ECDH-ES'],
  authorizationEncryptionEncValues: ['A256GCM', 'A128CBC-HS256'],
  idTokenEncryptionAlgValues: [],
  idTokenEncryptionEncValues: [],
  introspectionEncryptionAlgValues: [],
  introspectionEncryptionEncValues: [],
  requestObjectEncryptionAlgValues: [],
  requestObjectEncryptionEncValues: [],
  userinfoEncryptionAlgValues: [],
  userinfoEncryptionEncValues: [],
}

/** Leaves the lists without a member out of the metadata. */
export const encryptedResponses: Extension = {
  extend(engine) {
    engine.use(async (ctx: Context, next) => {
      await next()
      if (ctx.oidc?.route !== 'discovery') return
      const metadata = Object.entries(ctx.body as object).filter(
        ([name, value]) => !(/_encryption_(alg|enc)_values/.test(name) && value.length === 0),
      )
      ctx.body = Object.fromEntries(metadata)
    })
  },
}
