import test from 'ava'
import { isPath, pathOfIssuer } from '../../src/config/issuer-path.ts'
import { publicPlaces } from '../../src/http/public-path.ts'

const seen = (issuer: string, arrivalPath: string, path: string) =>
  publicPlaces({ issuer, arrivalPath })(path)

const issuer = 'https://example.org/auth'

test('a path that is kept', (t) => {
  t.is(seen(issuer, '/auth', '/auth/token'), '/token')
  t.is(seen(issuer, '/auth', '/auth'), '/')
})

test('a path that was stripped', (t) => {
  t.is(seen(issuer, '', '/token'), '/token')
})

test('a path that was replaced', (t) => {
  t.is(seen(issuer, '/in/here', '/in/here/token'), '/token')
  t.is(seen(issuer, '/in/here', '/auth/token'), undefined)
})

test('a path that a proxy has added to an origin', (t) => {
  t.is(seen('https://example.org', '/in', '/in/token'), '/token')
})

test('no path at all', (t) => {
  t.is(seen('https://example.org', '', '/token'), '/token')
})

for (const target of [
  '/',
  '/token',
  '/authority/token',
  '/AUTH/token',
  '/%61uth/token',
  '/x/auth',
]) {
  test(`${target} is not below the path`, (t) => {
    t.is(seen(issuer, '/auth', target), undefined)
  })
}

for (const arrivalPath of ['/auth', '']) {
  const how = arrivalPath ? 'kept' : 'stripped'
  for (const document of ['oauth-authorization-server', 'openid-configuration']) {
    test(`${document} at the origin, with the path ${how}`, (t) => {
      const place = `/.well-known/${document}`
      t.is(seen(issuer, arrivalPath, `${place}/auth`), place)
    })
  }

  test(`device-bound-sessions and change-password at the origin, with the path ${how}`, (t) => {
    for (const document of ['device-bound-sessions', 'change-password']) {
      const place = `/.well-known/${document}`
      t.is(seen(issuer, arrivalPath, place), place)
    }
  })
}

test('metadata of another issuer of the origin is not ours', (t) => {
  const place = '/.well-known/oauth-authorization-server'
  t.is(seen(issuer, '/auth', place), undefined)
  t.is(seen(issuer, '/auth', `${place}/other`), undefined)
})

test('paths that an issuer may have', (t) => {
  for (const path of ['/auth', '/t/a-1', '/v1.0', '/_x']) t.true(isPath(path), path)
  for (const path of ['', '/', 'auth', '/auth/', '//a', '/..', '/.x', '/a b', '/a%20', '/a?b']) {
    t.false(isPath(path), path)
  }
  t.is(pathOfIssuer('https://example.org'), '')
  t.is(pathOfIssuer('https://example.org/a/b'), '/a/b')
})
