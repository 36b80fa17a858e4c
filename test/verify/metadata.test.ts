import test from 'ava'
import { metadataUrl } from '../../packages/verify/metadata.ts'
import { refused } from '../support/verify/refused.ts'
import { audience, issuer, verifierWith } from '../support/verify/world.ts'

for (const [resource, expected] of [
  ['https://api.example', 'https://api.example/.well-known/oauth-protected-resource'],
  ['https://api.example/', 'https://api.example/.well-known/oauth-protected-resource'],
  ['https://api.example/a/b', 'https://api.example/.well-known/oauth-protected-resource/a/b'],
  ['https://api.example/a?b=c', 'https://api.example/.well-known/oauth-protected-resource/a?b=c'],
]) {
  test(`puts the metadata of ${resource} at ${expected}`, (t) => {
    t.is(metadataUrl(resource as string), expected as string)
  })
}

test('says what is enforced', (t) => {
  const verifier = verifierWith({
    metadata: { resource_name: 'Notes', scopes_supported: ['notes:read'] },
    dpop: { algorithms: ['ES256'] },
  })
  t.deepEqual(verifier.metadata, {
    path: '/.well-known/oauth-protected-resource',
    document: {
      resource: audience,
      authorization_servers: [issuer],
      bearer_methods_supported: ['header'],
      dpop_signing_alg_values_supported: ['ES256'],
      dpop_bound_access_tokens_required: false,
      tls_client_certificate_bound_access_tokens: true,
      resource_name: 'Notes',
      scopes_supported: ['notes:read'],
    },
  })
})

test('says that DPoP is required where nothing else is accepted', (t) => {
  const { metadata } = verifierWith({ metadata: {}, methods: ['dpop'] })
  t.is(metadata?.document.dpop_bound_access_tokens_required, true)
  t.is(metadata?.document.tls_client_certificate_bound_access_tokens, false)
})

test('points to itself in challenges', async (t) => {
  const verifier = verifierWith({
    metadata: {},
    methods: ['dpop'],
    dpop: { algorithms: ['ES256'] },
  })
  const error = await refused(t, 'credentials_missing', () =>
    verifier.verify({ method: 'GET', url: '/', headers: [] }),
  )
  t.deepEqual(error.challenges, [
    `DPoP algs="ES256", resource_metadata="${audience}/.well-known/oauth-protected-resource"`,
  ])
})

test('publishes nothing unless asked', (t) => {
  t.is(verifierWith().metadata, undefined)
})
