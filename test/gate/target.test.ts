import test from 'ava'
import { findPathProblem, looseReading } from '../../packages/gate/target.ts'

const everything = { encodedSlash: 'pass', doubleSlash: 'pass', semicolon: 'pass' } as const

for (const path of [
  '/admin;x=1/users',
  '/ADMIN/users',
  '/%61dmin/users',
  '/%2561dmin/users',
  '/admin%5Cusers',
  '/admin%255Cusers',
  '/admin%2Fusers',
  '//admin//users',
]) {
  test(`reads ${path} as the least strict application does`, (t) => {
    t.is(looseReading(path), '/admin/users')
  })
}

for (const path of ['/a/..;x/b', '/a%5C..%5Cb', '/a/%2e%2e/b', '/a/%252e./b', '/a/..']) {
  test(`lets no dot segment pass: ${path}`, (t) => {
    t.is(findPathProblem('/a/b', everything), undefined)
    t.is(findPathProblem(path, everything), 'path_dots')
  })
}
