import test from 'ava'
import type { RouteConfig } from '../../packages/gate/config.ts'
import { createPolicy } from '../../packages/gate/policy.ts'

const paths = { encodedSlash: 'refuse', doubleSlash: 'refuse', semicolon: 'refuse' } as const
const route = (given: Partial<RouteConfig>): RouteConfig =>
  ({ path: '/a', access: 'bound', trace: 'continue', bound: false, ...given }) as RouteConfig

test('of two routes with one path, the one that names methods wins, in any order', (t) => {
  const [all, some] = [route({}), route({ methods: ['GET'], access: 'public' })]
  for (const routes of [
    [all, some],
    [some, all],
  ]) {
    const policy = createPolicy(routes, paths)
    t.is(policy('GET', '/a').access, 'public')
    t.is(policy('HEAD', '/a').access, 'public')
    t.is(policy('POST', '/a').access, 'bound')
  }
})

test('the longest path wins, in any order', (t) => {
  const [short, long] = [route({ access: 'public' }), route({ path: '/a/b' })]
  for (const routes of [
    [short, long],
    [long, short],
  ]) {
    const policy = createPolicy(routes, paths)
    t.is(policy('GET', '/a/c').access, 'public')
    t.is(policy('GET', '/a/b/c').access, 'bound')
    t.is(policy('GET', '/ab').access, 'bound')
  }
})
