import test from 'ava'
import {
  checkNewPassword,
  decoyHash,
  generatePassword,
  hashPassword,
  MAX_PASSWORD_BYTES,
  needsRehash,
  PASSWORD_COST,
  verifyPassword,
} from '../../src/accounts/password.ts'
import { CHEAP } from '../support/accounts.ts'

test('hashes by argon2id into a PHC string that carries its parameters', async (t) => {
  const hash = await hashPassword('correct horse battery', CHEAP)
  t.regex(hash, /^\$argon2id\$v=19\$m=8,t=1,p=1\$/)
})

test('salts: one password, two hashes', async (t) => {
  t.not(
    await hashPassword('correct horse battery', CHEAP),
    await hashPassword('correct horse battery', CHEAP),
  )
})

test('the default cost is the first that OWASP recommends, or more', (t) => {
  t.true(PASSWORD_COST.memoryCost >= 19 * 1024)
  t.true(PASSWORD_COST.timeCost >= 2)
})

test('verifies a password however its letters were composed', async (t) => {
  const hash = await hashPassword('cafe\u0301 au lait noir', CHEAP)
  t.true(await verifyPassword(hash, 'caf\u00e9 au lait noir'))
  t.false(await verifyPassword(hash, 'cafe au lait noir'))
})

test('a decoy is verified at full cost and never matches', async (t) => {
  const decoy = decoyHash(PASSWORD_COST)
  t.false(needsRehash(decoy, PASSWORD_COST))
  t.is(decoy.length, (await hashPassword('correct horse battery', PASSWORD_COST)).length)
  t.false(await verifyPassword(decoy, 'correct horse battery'))
})

test('asks for a new hash when memory or passes grew, not when they shrank', async (t) => {
  const hash = await hashPassword('correct horse battery', {
    ...CHEAP,
    timeCost: 2,
    memoryCost: 16,
  })
  t.true(needsRehash(hash, { ...CHEAP, timeCost: 3, memoryCost: 16 }))
  t.true(needsRehash(hash, { ...CHEAP, timeCost: 2, memoryCost: 32 }))
  t.false(needsRehash(hash, { ...CHEAP, timeCost: 2, memoryCost: 16 }))
  t.false(needsRehash(hash, CHEAP))
})

test('accepts a new password of 15 characters and of 1024 bytes', (t) => {
  t.notThrows(() => checkNewPassword('a'.repeat(15)))
  t.notThrows(() => checkNewPassword('a'.repeat(MAX_PASSWORD_BYTES)))
})

test('counts characters, not UTF-16 units', (t) => {
  t.like(
    t.throws(() => checkNewPassword('🪢'.repeat(14))),
    { code: 'password_too_short' },
  )
})

test('rejects a new password of 14 characters', (t) => {
  t.like(
    t.throws(() => checkNewPassword('a'.repeat(14))),
    { code: 'password_too_short' },
  )
})

test('rejects a new password of 1025 bytes', (t) => {
  t.like(
    t.throws(() => checkNewPassword('a'.repeat(1025))),
    { code: 'password_too_long' },
  )
})

test('generates passwords that can be read out, pass the check and differ', (t) => {
  const password = generatePassword()
  t.regex(password, /^([0-9a-hjkmnp-tv-z]{5}-){3}[0-9a-hjkmnp-tv-z]{5}$/)
  t.notThrows(() => checkNewPassword(password))
  t.not(password, generatePassword())
})

test('a generated password uses every random byte', (t) => {
  const bytes = Uint8Array.from({ length: 20 }, (_, index) => index)
  t.is(
    generatePassword(() => bytes),
    '01234-56789-abcde-fghjk',
  )
})
