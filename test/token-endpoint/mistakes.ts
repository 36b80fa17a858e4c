/*
 * Mistakes that must not compile, each with the error that it brings. types.test.ts has the compiler
 * read this file; nothing runs it.
 */
import type { BoundCredential } from '../../src/bindings/binding.ts'
import type { Redeemable, Witness } from '../../src/token-endpoint/checks.ts'
import type { Committed } from '../../src/token-endpoint/commit.ts'
import type {
  AccessTokenPlan,
  Issued,
  RefreshTokenPlan,
  TokenAnswer,
} from '../../src/token-endpoint/issue.ts'
import type { Found, StoredGrant, StoredRefreshToken } from '../../src/token-endpoint/stored.ts'
import type { TokenOutcome } from '../../src/token-endpoint/token-endpoint.ts'
import { type DecidedKeys, inheritedKeys } from '../../src/token-endpoint/token-keys.ts'
import type { TokenClient, TokenRequest } from '../../src/token-endpoint/token-request.ts'

declare const access: AccessTokenPlan
declare const client: TokenClient
declare const found: Found<StoredRefreshToken>
declare const issued: Issued
declare const keys: DecidedKeys
declare const person: Redeemable
declare const refresh: RefreshTokenPlan
declare const request: TokenRequest
declare const committed: Committed<TokenAnswer>

// Keys of a token that no check has decided
export const ofProof: AccessTokenPlan = { ...access, bound: { jkt: 'thumbprint' } } // TS2322
export const bearer: AccessTokenPlan = { ...access, bound: {} } // TS2322
export const ofSource: RefreshTokenPlan = { ...refresh, bound: found.source } // TS2322
export const changed: DecidedKeys = { ...keys, jkt: 'another' } // TS2322
export const ofUnbound = inheritedKeys(found, found.source, request) // TS2345
export const unnamed: TokenClient = { ...client, binding: undefined } // TS2322

// A credential that was exchanged after its checks
export const exchanged: Redeemable = { ...person, source: found.source } // TS2322
export const oneCheck: Redeemable = found as typeof found & Witness<'session'> // TS2322
export const granted: { grant: StoredGrant } & Witness<'grant'> = { grant: person.grant } // TS2322

// An answer that was not committed
export const early: TokenOutcome = { result: { body: issued.answer } } // TS2375
export const more: TokenOutcome = { result: { body: { ...committed, scope: 'admin' } } } // TS2375

// What is right compiles.
export const bound: BoundCredential = keys
export const right: AccessTokenPlan = { ...access, bound: keys }
export const answered: TokenOutcome = { result: { body: committed } }
