import test from 'ava'
import { describeConsent, missingConsent } from '../../src/interaction/consent.ts'

const prompt = (details: Record<string, unknown>, reasons = ['op_scopes_missing']) => ({
  prompt: { name: 'consent', reasons, details },
})
const noWords = async () => undefined

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
    { scopes: ['email'], claims: ['email'], resources: [] },
    noWords,
  )
  t.deepEqual(sections, [{ lines: [{ words: 'See your email address' }] }])
})

test('shows by name what it has no words for', async (t) => {
  const sections = await describeConsent(
    {
      scopes: ['constructor'],
      claims: ['https://claims.example/rank'],
      resources: [{ indicator: 'https://api.example', scopes: ['read'] }],
    },
    noWords,
  )
  t.deepEqual(sections, [
    {
      lines: [
        { words: 'Use', code: 'constructor' },
        { words: 'See', code: 'https://claims.example/rank' },
      ],
    },
    { resource: 'https://api.example', lines: [{ words: 'Use', code: 'read' }] },
  ])
})

test('names a registered resource server, its address and its scopes', async (t) => {
  const sections = await describeConsent(
    { scopes: [], claims: [], resources: [{ indicator: 'https://api.example', scopes: ['read'] }] },
    async () => ({ name: 'Orders', scopes: new Map([['read', 'Read your orders']]) }),
  )
  t.deepEqual(sections, [
    {
      resource: 'Orders (https://api.example)',
      lines: [{ words: 'Read your orders', code: 'read' }],
    },
  ])
})
