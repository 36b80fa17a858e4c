import test from 'ava'
import { createVault } from '../../src/keys/vault.ts'

const [first, second] = ['a'.repeat(64), 'b'.repeat(64)] as const

test('opens what it has sealed, and says so where the secret is an earlier one', async (t) => {
  const sealed = await createVault([first]).seal('text', 'ada')
  t.deepEqual(await createVault([first]).open(sealed, 'ada'), { text: 'text', isOld: false })
  t.deepEqual(await createVault([second, first]).open(sealed, 'ada'), { text: 'text', isOld: true })
})

test('rejects what is of another account, of another secret, or damaged', async (t) => {
  const vault = createVault([first])
  const sealed = await vault.seal('text', 'ada')
  t.is(await vault.open(sealed, 'bob'), undefined)
  t.is(await createVault([second]).open(sealed, 'ada'), undefined)
  t.is(await vault.open(`${sealed.slice(0, -4)}AAAA`, 'ada'), undefined)
})
