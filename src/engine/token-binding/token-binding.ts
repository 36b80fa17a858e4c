import type { ProvenTokenBinding } from '../../http/edge.ts'
import type { Extension } from '../extension.ts'
import {
  checkTokenBindingMetadata,
  tokenBindingClientMetadata,
  tokenBindingMetadata,
} from './metadata.ts'
import { acceptTokenBindingChallenges } from './pkce.ts'
import { keepReferredTokenBinding } from './referred.ts'
import { bindSessionsByTokenBinding } from './sessions.ts'
import { checkTokenBindingAtUserinfo } from './userinfo.ts'

/**
 * Everything that Token Binding adds to the engine. What was bound stays bound where Token Binding
 * is switched off later: then nobody can prove anything, and only new challenges are not accepted.
 */
export const tokenBinding: Extension = {
  extend(engine, { edge, securityEvents, tokenBinding: isConfigured }) {
    const tokenBindingOf: ProvenTokenBinding = (ctx) => edge.proofsOf(ctx).tokenBinding
    bindSessionsByTokenBinding(engine, edge, securityEvents)
    checkTokenBindingAtUserinfo(engine, tokenBindingOf)
    keepReferredTokenBinding(engine, tokenBindingOf)
    if (isConfigured) acceptTokenBindingChallenges(engine)
  },
  metadata: ({ tokenBinding: isConfigured }) => (isConfigured ? tokenBindingMetadata : {}),
  clientMetadata: tokenBindingClientMetadata,
  checkClient: (metadata, { tokenBinding: isConfigured }) =>
    checkTokenBindingMetadata(metadata, isConfigured),
}
