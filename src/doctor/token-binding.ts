import { hash } from 'node:crypto'
import { createMemoryKeys, TokenBindingAgent } from '@holdfast/token-binding-tls'
import type { TokenBindingMode } from '../config/token-binding-config.ts'
import { type Finding, finding } from './finding.ts'
import { type Sent, send, type Target } from './request.ts'

const arrives = 'a Token Binding arrives'

const notAvailable =
  'Token Binding is configured, and this machine cannot speak it: build its native part here ' +
  '("npm run build:native") and examine again.'

/** Negotiates Token Binding (RFC 8472) with the end of TLS, and proves a key on it. */
export async function examineTokenBinding(
  target: Target,
  {
    mode,
    available,
  }: {
    mode: Exclude<TokenBindingMode, 'off'>
    /** Whether the native part is built here. */
    available: boolean
  },
): Promise<Finding[]> {
  if (!available) return [{ check: arrives, outcome: 'not_examined', advice: notAvailable }]
  const shown = new Set<string>()
  const memory = createMemoryKeys()
  const keys = {
    async keyFor(...of: Parameters<typeof memory.keyFor>) {
      const key = await memory.keyFor(...of)
      shown.add(hash('sha256', key.id, 'base64url'))
      return key
    },
  }
  const agent = new TokenBindingAgent({ keys, tls13Draft: mode === 'tls13-draft' })
  try {
    const seen = await send(target, [], agent)
    const [mine] = shown
    const advice = bindingAdvice(seen, mode, mine)
    if (advice) return [finding(arrives, advice)]
    const forged = ['Sec-Provided-Token-Binding-ID', 'AgBBQ']
    const beside = besideAdvice(await send(target, forged, agent), mine)
    return [
      finding(arrives, undefined),
      finding('a Token Binding does not stand beside a claim', beside),
    ]
  } finally {
    agent.destroy()
  }
}

function bindingAdvice(
  seen: Sent,
  mode: Exclude<TokenBindingMode, 'off'>,
  mine: string | undefined,
): string | undefined {
  if (typeof seen === 'string') return seen
  const { provided, refused } = seen.tokenBinding
  if (mine === undefined) {
    return seen.fromProxy || mode === 'proxy'
      ? 'What terminates TLS does not negotiate Token Binding (RFC 8472). nginx, HAProxy and ' +
          'Envoy cannot: put a proxy there that can, or set HOLDFAST_TOKEN_BINDING=off.'
      : 'Token Binding is not negotiated (RFC 8472), though this server offers it: something ' +
          'between here and there terminates TLS. Let it pass connections on whole.'
  }
  if (mode !== 'proxy' && seen.fromProxy) {
    return (
      'Token Binding is negotiated with a proxy, and the server does not read its headers: set ' +
      'HOLDFAST_TOKEN_BINDING=proxy.'
    )
  }
  if (refused !== null) {
    return mode === 'proxy' && !seen.fromProxy
      ? 'A Token Binding ID comes from an address that is not trusted: name the proxy in ' +
          'HOLDFAST_TRUSTED_PROXIES.'
      : `A Token Binding arrives, and is refused (${refused}): something changes ` +
          `${mode === 'proxy' ? 'Sec-Provided-Token-Binding-ID' : 'Sec-Token-Binding'}.`
  }
  if (provided === null) {
    return (
      'Token Binding is negotiated, and nothing of it arrives: let the proxy send ' +
      'Sec-Provided-Token-Binding-ID (draft-ietf-tokbind-ttrp-09).'
    )
  }
  if (provided !== mine) return 'Another Token Binding arrives.'
  // Section 2.3 of the draft, rule 2: a second reader has no connection to check it on.
  return mode === 'proxy' && seen.fields.includes('sec-token-binding')
    ? 'The proxy passes on Sec-Token-Binding, which it has checked: let it remove it.'
    : undefined
}

function besideAdvice(seen: Sent, mine: string | undefined): string | undefined {
  if (typeof seen === 'string' || seen.tokenBinding.provided === mine) return undefined
  // Without a proxy a request with such a header is refused whole.
  if (!seen.fromProxy && seen.tokenBinding.refused !== null) return undefined
  return (
    "The client's own Sec-Provided-Token-Binding-ID arrives beside the proxy's or instead of it: " +
    'let the proxy overwrite it, not add to it.'
  )
}
