import type Provider from 'oidc-provider'
import type { Edge } from '../http/edge.ts'
import type { TokenBindingOf } from '../http/token-binding-reader.ts'
import { keepReferredTokenBinding } from './referred-token-binding.ts'
import { acceptTokenBindingChallenges } from './token-binding-pkce.ts'
import { checkTokenBindingAtUserinfo } from './token-bound-userinfo.ts'

/**
 * Everything that Token Binding adds to the engine. What was bound stays bound where Token Binding
 * is switched off later: then nobody can prove anything, and only new challenges are not accepted.
 */
export function addTokenBinding(
  engine: Provider,
  edge: Pick<Edge, 'proofsOf'>,
  { acceptChallenges }: { acceptChallenges: boolean },
): void {
  const tokenBindingOf: TokenBindingOf = (request) => edge.proofsOf(request).tokenBinding
  checkTokenBindingAtUserinfo(engine, tokenBindingOf)
  keepReferredTokenBinding(engine, tokenBindingOf)
  if (acceptChallenges) acceptTokenBindingChallenges(engine)
}
