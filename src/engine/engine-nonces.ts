/// <reference path="./engine-internals.d.ts" />

import type { DPoPNonces } from '@holdfast/verify'
import type Provider from 'oidc-provider'
import { get as instance } from 'oidc-provider/lib/helpers/weak_cache.js'

/** The engine's own nonces, so that a client needs one for all endpoints (RFC 9449 section 8). */
export function engineNonces(provider: Provider): DPoPNonces {
  // Asked for each time: they change with their secret.
  const nonces = () => instance(provider).DPoPNonces
  return {
    current: () => nonces().nextChallenge(),
    accepts: (nonce) => nonce !== undefined && nonces().checkChallenge(nonce),
  }
}
