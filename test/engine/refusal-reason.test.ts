import { readFile } from 'node:fs/promises'
import test from 'ava'
import { errors } from 'oidc-provider'
import { engineSentences, refusalReason, refusedFor } from '../../src/engine/refusal-reason.ts'

/** Sentences as they stand in the source of the engine, by the file. */
const sentences = {
  'helpers/oidc_context.js': [['dpop_missing', '`DPoP` header not provided']],
  'helpers/validate_dpop.js': [
    ['dpop_replayed', 'DPoP proof JWT Replay detected'],
    ['dpop_htu_mismatch', 'DPoP proof htu mismatch'],
    ['dpop_htm_mismatch', 'DPoP proof htm mismatch'],
    ['dpop_ath_mismatch', 'DPoP proof ath mismatch'],
    ['dpop_not_recent', 'DPoP proof iat is not recent enough'],
    ['dpop_not_recent', 'DPoP proof iat is not recent enough, use a DPoP nonce instead'],
    ['dpop_nonce', 'nonce is required in the DPoP proof'],
    ['dpop_nonce', 'invalid nonce in DPoP proof'],
  ],
  'shared/access_token.js': [
    ['key_mismatch', 'failed x5t#S256 verification'],
    ['key_mismatch', 'failed jkt verification'],
    ['token_unknown', 'access token not found'],
  ],
  'shared/jwt_client_auth.js': [
    ['assertion_replayed', 'client assertion tokens must only be used once'],
  ],
  'actions/authorization/respond.js': [
    ['request_replayed', 'request_uri is invalid, expired, or was already used'],
  ],
} as const

const inEngine = new URL('../../node_modules/oidc-provider/lib/', import.meta.url)

for (const [file, pinned] of Object.entries(sentences)) {
  test(`finds the reasons behind the sentences in ${file} of the engine`, async (t) => {
    const source = await readFile(new URL(file, inEngine), 'utf8')
    for (const [reason, sentence] of pinned) {
      t.true(source.includes(`('${sentence}'`), sentence)
      t.is(refusalReason(new errors.InvalidRequest(sentence), sentence), reason)
    }
  })
}

test('reads no sentence of the engine that is not pinned above', (t) => {
  const pinned = Object.values(sentences).flatMap((each) => each.map(([reason]) => reason))
  t.deepEqual([...new Set(pinned)].sort(), engineSentences.map(([reason]) => reason).sort())
})

test('takes the reason of an error that this server throws, whatever it says', (t) => {
  const error = refusedFor('key_mismatch', new errors.InvalidToken('DPoP proof htu mismatch'))
  t.is(refusalReason(error, 'DPoP proof htu mismatch'), 'key_mismatch')
})

test('labels a target that the engine itself rejects', (t) => {
  t.is(refusalReason(new errors.InvalidTarget('x'), 'x'), 'resource_malformed')
})
