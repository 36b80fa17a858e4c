import type { Extension } from '../extension.ts'
import { storeMembers } from '../model-additions.ts'
import {
  checkTokenBindingMetadata,
  tokenBindingClientMetadata,
  tokenBindingMetadata,
} from './metadata.ts'
import { acceptTokenBindingChallenges } from './pkce.ts'
import { keepReferredTokenBinding } from './referred.ts'
import { bindInteractionPages, bindSessionsByTokenBinding } from './sessions.ts'
import { checkTokenBindingAtUserinfo } from './userinfo.ts'

/**
 * Everything that Token Binding adds to the engine. What was bound stays bound where Token Binding
 * is switched off later: then nobody can prove anything, and only new challenges are not accepted.
 */
export const tokenBinding: Extension = {
  extend(engine, { edge, tokenBinding: isConfigured }) {
    // In the session's own row: the writer of the account writes the key that it is held by.
    storeMembers(engine, 'Session', ['tbh'])
    storeMembers(engine, 'Interaction', ['tbh', 'referredTbh'])
    storeMembers(engine, 'AuthorizationCode', ['referredTbh'])
    storeMembers(engine, 'AccessToken', ['tbh'])
    bindInteractionPages(engine, edge)
    checkTokenBindingAtUserinfo(engine, (ctx) => edge.proofsOf(ctx).tokenBinding)
    if (isConfigured) acceptTokenBindingChallenges(engine)
  },
  models({ edge, securityEvents }) {
    const sessions = bindSessionsByTokenBinding(edge, securityEvents)
    const referred = keepReferredTokenBinding((ctx) => edge.proofsOf(ctx).tokenBinding)
    return [sessions, referred]
  },
  metadata: ({ tokenBinding: isConfigured }) => (isConfigured ? tokenBindingMetadata : {}),
  clientMetadata: tokenBindingClientMetadata,
  checkClient: (metadata, { tokenBinding: isConfigured }) =>
    checkTokenBindingMetadata(metadata, isConfigured),
}
