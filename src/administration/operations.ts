import { z } from 'zod'
import { detailsTypes } from '../authorization-details/details-type.ts'
import type { RequestedMetadata } from '../clients/client-registration.ts'
import { keyPurposes } from '../keys/key-purpose.ts'
import * as answers from './answers.ts'
import { claimMapping, claimMappings } from './claims.ts'
import { newInvitation } from './invitations.ts'
import { type Operations, operation } from './operation.ts'
import { newRegistrationToken } from './registration-tokens.ts'
import * as requests from './requests.ts'

const done = { status: 204 } as const
const client_id = z.string().describe('The client')
const email = z.string().meta({ description: 'The account', format: 'email' })
const id = z.string().describe('As in the list')
const kid = z.string().describe('The key')

/** What each route of `adminRoutes` takes, does and answers. */
export const operations: Operations = {
  listClients: operation({
    summary: 'All clients, without secrets',
    answer: { status: 200, description: 'Clients', schema: answers.client, isList: true },
    handle: async ({ clients }) => (await clients.list()).map(({ metadata }) => metadata),
  }),
  addClient: operation({
    summary: 'Register a client; its secret is in this response only',
    body: requests.newClient,
    answer: { status: 201, description: 'The client', schema: answers.client },
    refusals: [409],
    handle: ({ clients }, { body }) => clients.add(body as RequestedMetadata),
  }),
  showClient: operation({
    summary: 'One client, without its secret',
    params: { client_id },
    answer: { status: 200, description: 'The client', schema: answers.client },
    refusals: [404],
    handle: ({ clients }, { params }) => clients.show(params.client_id),
  }),
  changeClient: operation({
    summary:
      'Replace all metadata of a client: omitted members are removed; its secret stays, and is in the response only if it is new',
    params: { client_id },
    body: requests.changedClient,
    answer: { status: 200, description: 'The client', schema: answers.client },
    refusals: [404],
    handle: ({ clients }, { params, body }) =>
      clients.change(params.client_id, body as RequestedMetadata),
  }),
  removeClient: operation({
    summary: 'Remove a client and its grants, sessions and tokens',
    params: { client_id },
    answer: done,
    refusals: [404],
    handle: ({ clients }, { params }) => clients.remove(params.client_id),
  }),
  setClientLogo: operation({
    summary: 'Set the logo of a client, shown at consent',
    params: { client_id },
    body: requests.logo,
    answer: done,
    refusals: [404],
    handle: ({ clients }, { params, body }) =>
      clients.setLogo(params.client_id, Buffer.from(body.image, 'base64')),
  }),
  removeClientLogo: operation({
    summary: 'Remove the logo of a client',
    params: { client_id },
    answer: done,
    refusals: [404],
    handle: ({ clients }, { params }) => clients.removeLogo(params.client_id),
  }),
  renewClientSecret: operation({
    summary: 'Generate a new secret for a client; the previous one stops working',
    params: { client_id },
    answer: {
      status: 200,
      description: 'The secret: only in this response',
      schema: answers.renewedSecret,
    },
    refusals: [404, 409],
    handle: ({ clients }, { params }) => clients.renewSecret(params.client_id),
  }),

  listAccounts: operation({
    summary: 'All accounts',
    answer: { status: 200, description: 'Accounts', schema: answers.account, isList: true },
    handle: ({ accounts }) => accounts.list(),
  }),
  addAccount: operation({
    summary: 'Add an account; without a password, a one-time link is in this response only',
    body: requests.newAccount,
    answer: { status: 201, description: 'The account', schema: answers.addedAccount },
    refusals: [409],
    handle: ({ accounts }, { body }) => accounts.add(body),
  }),
  changeAccount: operation({
    summary:
      'Change what an account says of its person; members that are left out stay, null removes',
    params: { email },
    body: requests.changedAccount,
    answer: { status: 200, description: 'The account', schema: answers.account },
    refusals: [404, 409],
    handle: ({ accounts }, { params, body }) => accounts.change(params.email, body),
  }),
  removeAccount: operation({
    summary: 'Remove an account for ever: its credentials, sessions, grants and tokens',
    params: { email },
    answer: { status: 200, description: 'What has ended', schema: answers.signedOut },
    refusals: [404],
    handle: ({ accounts }, { params }) => accounts.remove(params.email),
  }),
  importAccounts: operation({
    summary:
      'Add accounts of another system with their hashes of passwords; those that are there stay as they are',
    body: requests.accountImport,
    answer: { status: 200, description: 'What was done', schema: answers.importResult },
    handle: ({ accountTransfer }, { body: { accounts, dryRun } }) =>
      accountTransfer.import(accounts, { dryRun }),
  }),
  exportAccounts: operation({
    summary: 'Accounts as an import takes them, in the order of their ids, without passwords',
    query: requests.exportQuery,
    answer: { status: 200, description: 'Accounts', schema: answers.exportedAccount, isList: true },
    handle: ({ accountTransfer }, { query }) => accountTransfer.list(query),
  }),
  disableAccount: operation({
    summary: 'Disable an account: sign-in, refresh tokens and opaque access tokens stop working',
    params: { email },
    answer: done,
    refusals: [404],
    handle: ({ accounts }, { params }) => accounts.disable(params.email),
  }),
  enableAccount: operation({
    summary: 'Let a disabled account sign in again',
    params: { email },
    answer: done,
    refusals: [404],
    handle: ({ accounts }, { params }) => accounts.enable(params.email),
  }),
  inviteAccount: operation({
    summary:
      'Make a one-time link in which the user sets a passkey or a password; it is in this response only, and the previous link stops working',
    params: { email },
    answer: { status: 200, description: 'The link', schema: answers.madeLink },
    refusals: [404],
    handle: ({ accounts }, { params }) => accounts.invite(params.email),
  }),
  resetAccount: operation({
    summary:
      'Remove the password of an account, end its sessions, revoke its grants, and make a one-time link',
    params: { email },
    body: requests.reset,
    answer: { status: 200, description: 'The link', schema: answers.resetAccount },
    refusals: [404],
    handle: ({ accounts }, { params, body }) => accounts.reset(params.email, body),
  }),
  signAccountOut: operation({
    summary: 'End every session of an account, and revoke its tokens if asked',
    params: { email },
    body: requests.signOut,
    answer: { status: 200, description: 'What has ended', schema: answers.signedOut },
    refusals: [404],
    handle: ({ accounts }, { params, body }) => accounts.signOut(params.email, body),
  }),
  listPasskeys: operation({
    summary: 'The passkeys of an account, oldest first',
    params: { email },
    answer: { status: 200, description: 'Passkeys', schema: answers.passkey, isList: true },
    refusals: [404],
    handle: ({ accounts }, { params }) => accounts.listPasskeys(params.email),
  }),
  removePasskey: operation({
    summary: 'Remove a passkey, and end every session of its account',
    params: { email, id },
    answer: done,
    refusals: [404],
    handle: ({ accounts }, { params }) => accounts.removePasskey(params.email, params.id),
  }),
  listInstallations: operation({
    summary: 'The copies of applications that hold tokens of an account, by their keys',
    params: { email },
    answer: {
      status: 200,
      description: 'Installations',
      schema: answers.installation,
      isList: true,
    },
    refusals: [404],
    handle: ({ accounts }, { params }) => accounts.listInstallations(params.email),
  }),
  endInstallation: operation({
    summary: 'End one copy of an application: the tokens of an account that are bound to its key',
    params: { email, jkt: z.string().describe('The thumbprint of its key, as in the list') },
    answer: done,
    refusals: [404],
    handle: ({ accounts }, { params }) => accounts.endInstallation(params.email, params.jkt),
  }),
  setPassword: operation({
    summary: 'Set a password, and end every session of the account',
    params: { email },
    body: requests.newPassword,
    answer: done,
    refusals: [404],
    handle: ({ accounts }, { params, body }) => accounts.setPassword(params.email, body.password),
  }),

  listInvitations: operation({
    summary: 'Codes by which people make accounts for themselves',
    answer: {
      status: 200,
      description: 'Invitations',
      schema: answers.invitation,
      isList: true,
    },
    handle: ({ invitations }) => invitations.list(),
  }),
  createInvitation: operation({
    summary: 'Make an invitation; its code is in this response only',
    body: newInvitation,
    answer: { status: 201, description: 'The invitation', schema: answers.createdInvitation },
    handle: ({ invitations }, { body }) => invitations.create(body),
  }),
  revokeInvitation: operation({
    summary: 'Revoke an invitation; accounts that were made by it stay',
    params: { id },
    answer: done,
    refusals: [404],
    handle: ({ invitations }, { params }) => invitations.revoke(params.id),
  }),

  listRegistrationTokens: operation({
    summary: 'Initial access tokens of dynamic client registration',
    answer: {
      status: 200,
      description: 'Tokens',
      schema: answers.registrationToken,
      isList: true,
    },
    handle: ({ registrationTokens }) => registrationTokens.list(),
  }),
  addRegistrationToken: operation({
    summary: 'Make an initial access token; it is in this response only',
    body: newRegistrationToken,
    answer: { status: 201, description: 'The token', schema: answers.addedRegistrationToken },
    handle: ({ registrationTokens }, { body }) => registrationTokens.add(body),
  }),
  removeRegistrationToken: operation({
    summary: 'Remove an initial access token; clients that registered with it stay',
    params: { id },
    answer: done,
    refusals: [404],
    handle: ({ registrationTokens }, { params }) => registrationTokens.remove(params.id),
  }),

  listResources: operation({
    summary: 'The APIs that access tokens are for',
    answer: { status: 200, description: 'APIs', schema: answers.resource, isList: true },
    handle: ({ resources }) => resources.list(),
  }),
  addResource: operation({
    summary: 'Register an API',
    body: requests.newResource,
    answer: { status: 201, description: 'The API', schema: answers.resource },
    refusals: [409],
    handle: ({ resources }, { body }) => resources.add(body),
  }),
  setDetailsTypes: operation({
    summary: 'Replace the types of authorization details (RFC 9396) that an API understands',
    params: { identifier: z.string().describe('Its URI, URL-encoded') },
    body: detailsTypes,
    answer: { status: 200, description: 'The types', schema: answers.detailsTypes },
    refusals: [404, 409],
    handle: ({ resources }, { params, body }) => resources.setDetailsTypes(params.identifier, body),
  }),
  removeResource: operation({
    summary: 'Remove an API: the server issues no more tokens for it',
    params: { identifier: z.string().describe('Its URI, URL-encoded') },
    answer: done,
    refusals: [404],
    handle: ({ resources }, { params }) => resources.remove(params.identifier),
  }),

  listClaims: operation({
    summary: 'The claims that administrators add to tokens',
    answer: { status: 200, description: 'Mappings', schema: claimMapping, isList: true },
    handle: ({ claims }) => claims.list(),
  }),
  replaceClaims: operation({
    summary: 'Replace all claims that administrators add to tokens',
    body: claimMappings,
    answer: { status: 200, description: 'Mappings', schema: claimMapping, isList: true },
    handle: ({ claims }, { body }) => claims.replace(body),
  }),

  listSessions: operation({
    summary: 'Where people are signed in',
    query: requests.sessionQuery,
    answer: { status: 200, description: 'Sessions', schema: answers.session, isList: true },
    refusals: [404],
    handle: ({ sessions }, { query }) => sessions.list(query),
  }),
  endSession: operation({
    summary: 'End a session, and the refresh tokens that do not outlive it',
    params: { id },
    answer: done,
    refusals: [404],
    handle: ({ sessions }, { params }) => sessions.end(params.id),
  }),

  listGrants: operation({
    summary: 'What people have granted to clients',
    query: requests.grantQuery,
    answer: { status: 200, description: 'Grants', schema: answers.grant, isList: true },
    refusals: [404],
    handle: ({ grants }, { query }) => grants.list(query),
  }),
  revokeGrant: operation({
    summary: 'Revoke a grant and its tokens; JWT access tokens remain valid until they expire',
    params: { id },
    answer: done,
    refusals: [404],
    handle: ({ grants }, { params }) => grants.revoke(params.id),
  }),

  listKeys: operation({
    summary: 'The keys of tokens, cookies, nonces and forms, without their values',
    answer: { status: 200, description: 'Keys', schema: answers.key, isList: true },
    handle: ({ keys }) => keys.list(),
  }),
  rotateKeys: operation({
    summary:
      'Publish one more key for these purposes, or for all; repeated within a minute it is one rotation',
    body: requests.rotation,
    answer: {
      status: 200,
      description: 'The new key of each purpose',
      schema: answers.key,
      isList: true,
    },
    handle: ({ keys }, { body: { purposes = keyPurposes } }) => keys.rotate(purposes),
  }),
  retireKey: operation({
    summary: 'Retire a key once everything it signed has expired, or now',
    params: { kid },
    body: requests.retirement,
    answer: { status: 200, description: 'The key', schema: answers.retiredKey },
    refusals: [404],
    handle: ({ keys }, { params, body }) => keys.retire(params.kid, body),
  }),

  listAudit: operation({
    summary: 'The audit trail, oldest event first',
    query: requests.auditQuery,
    answer: { status: 200, description: 'Events', schema: answers.auditEvent, isList: true },
    refusals: [404],
    handle: ({ audit }, { query }) => audit.list(query),
  }),
  listCountedEvents: operation({
    summary: 'Events that anonymous requests caused, and issued tokens, counted by minute',
    query: requests.countedQuery,
    answer: { status: 200, description: 'Counts', schema: answers.countedEvent, isList: true },
    handle: ({ countedEvents }, { query }) => countedEvents.list(query),
  }),

  showOpenapi: operation({
    summary: 'This document',
    answer: {
      status: 200,
      description: 'OpenAPI 3.1',
      schema: z.record(z.string(), z.unknown()),
    },
    handle: (_administration, _input, document) => Promise.resolve(document()),
  }),
}
