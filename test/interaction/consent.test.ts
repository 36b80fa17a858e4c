import test from 'ava'
import { missingConsent } from '../../src/interaction/consent.ts'
import { describeConsent } from '../../src/pages/consent-sections.ts'

const prompt = (details: Record<string, unknown>, reasons = ['op_scopes_missing']) => ({
  prompt: { name: 'consent', reasons, details },
})
const noLabels = async () => undefined
const noTypes = async () => undefined

test('reads what the consent prompt found missing', (t) => {
  const missing = missingConsent(
    prompt({
      missingOIDCScope: ['openid'],
      missingOIDCClaims: ['name'],
      missingResourceScopes: { 'https://api.example': ['read'] },
    }),
  )
  t.deepEqual(missing, {
    scopes: ['openid'],
    claims: ['name'],
    resources: [{ indicator: 'https://api.example', scopes: ['read'] }],
    details: [],
  })
})

test('refuses to ask for what it has no words for', (t) => {
  const error = t.throws(() =>
    missingConsent(prompt({ rar: [{}] }, ['op_scopes_missing', 'rar_prompt'])),
  )
  t.like(error, { code: 'unsupported_prompt' })
})

test('refuses consent in any other prompt', (t) => {
  const error = t.throws(() =>
    missingConsent({ prompt: { name: 'login', reasons: ['no_session'], details: {} } }),
  )
  t.like(error, { code: 'expired_interaction' })
})

test('says a scope and a claim of the same thing once', async (t) => {
  const sections = await describeConsent(
    { scopes: ['email'], claims: ['email'], resources: [], details: [] },
    noLabels,
    noTypes,
  )
  t.deepEqual(sections, [{ lines: [{ label: { key: 'claim.email' } }] }])
})

test('shows the name of a scope and of a claim without a label', async (t) => {
  const sections = await describeConsent(
    {
      scopes: ['constructor'],
      claims: ['https://claims.example/rank'],
      resources: [{ indicator: 'https://api.example', scopes: ['read'] }],
      details: [],
    },
    noLabels,
    noTypes,
  )
  t.deepEqual(sections, [
    {
      lines: [
        { label: { key: 'scope.other' }, code: 'constructor' },
        { label: { key: 'claim.other' }, code: 'https://claims.example/rank' },
      ],
    },
    { resource: 'https://api.example', lines: [{ label: { key: 'scope.other' }, code: 'read' }] },
  ])
})

test('names a registered resource server, its address and its scopes', async (t) => {
  const sections = await describeConsent(
    {
      scopes: [],
      claims: [],
      resources: [{ indicator: 'https://api.example', scopes: ['read'] }],
      details: [],
    },
    async () => ({ name: 'Orders', scopes: new Map([['read', 'Read your orders']]) }),
    noTypes,
  )
  t.deepEqual(sections, [
    {
      resource: 'Orders (https://api.example)',
      lines: [{ label: 'Read your orders', code: 'read' }],
    },
  ])
})
