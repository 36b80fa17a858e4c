import test from 'ava'
import { isOfThisMachine } from '../../src/net/this-machine.ts'

for (const host of [
  'localhost',
  'localhost.',
  'LOCALHOST',
  'app.localhost',
  '127.0.0.1',
  '127.8.9.10',
  '0.0.0.0',
  '2130706433',
  '0x7f.1',
  '0177.0.0.1',
  '[::1]',
  '[::]',
  '[::ffff:127.0.0.1]',
  '[::ffff:0.0.0.0]',
  '[0:0:0:0:0:0:0:1]',
]) {
  test(`finds this machine at ${host}`, (t) => {
    t.true(isOfThisMachine(new URL(`http://${host}/`).hostname))
  })
}

for (const host of [
  'shop.example',
  'localhost.example',
  'notlocalhost',
  '128.0.0.1',
  '10.0.0.1',
  '127.0.0.1.example',
  '[2001:db8::1]',
  '[::ffff:192.0.2.1]',
]) {
  test(`finds another machine at ${host}`, (t) => {
    t.false(isOfThisMachine(new URL(`http://${host}/`).hostname))
  })
}
