/** Which rule is for a request: data in, a rule or a refusal out. */
import type { Requirements } from '@holdfast/verify'
import type { RouteConfig } from './config.ts'
import { Refusal } from './refusal.ts'
import { findPathProblem, looseReading, type PathRules } from './target.ts'

/** What a route asks of a request. */
export type Rule =
  | Readonly<{ access: 'public'; route: string; trace: RouteConfig['trace'] }>
  | Readonly<{
      access: 'bound'
      /** The path of the rule, as the configuration has it. */
      route: string
      /** Whether the trace of the client is continued. */
      trace: RouteConfig['trace']
      requirements: Requirements
      groups: readonly string[] | undefined
      /** Whether the session of a browser must be bound to a key, and to which. */
      bound: RouteConfig['bound']
    }>

/** Finds the rule of a request. @throws {@link Refusal} for paths that are refused or ambiguous. */
export type Policy = (method: string, path: string) => Rule

type Entry = Readonly<{
  prefix: string
  loose: string
  methods: readonly string[] | undefined
  rule: Rule
}>

/** Without a route of its own, a request needs a bound token and nothing more. */
const anyToken: Rule = Object.freeze({
  access: 'bound',
  route: '/',
  trace: 'continue',
  requirements: {},
  groups: undefined,
  bound: false,
})

/**
 * Makes the policy of an application. The longest path wins, and of two routes with one path the one
 * that names methods; a route for GET is one for HEAD. A request is refused where the path as it was
 * written and its loosest reading have different rules: the application may read it either way.
 */
export function createPolicy(routes: readonly RouteConfig[], paths: PathRules): Policy {
  const entries = routes
    .map(entryOf)
    .sort((a, b) => b.prefix.length - a.prefix.length || rank(a) - rank(b))

  function find(method: string, isIn: (entry: Entry) => boolean): Rule {
    const applies = ({ methods }: Entry) => methods === undefined || methods.includes(method)
    return entries.find((entry) => isIn(entry) && applies(entry))?.rule ?? anyToken
  }

  return (method, path) => {
    const problem = findPathProblem(path, paths)
    if (problem !== undefined) throw new Refusal(problem)
    const rule = find(method, ({ prefix }) => isBelow(path, prefix))
    const loosely = looseReading(path)
    if (find(method, ({ loose }) => isBelow(loosely, loose)) !== rule) {
      throw new Refusal('path_ambiguous')
    }
    return rule
  }
}

const rank = ({ methods }: Entry) => (methods === undefined ? 1 : 0)

function entryOf({ path, methods, access, groups, bound, trace, ...asked }: RouteConfig): Entry {
  const { scopes, acrValues, maxAgeS } = asked
  const prefix = path.replace(/\/$/, '')
  const requirements: Requirements = {
    ...(scopes && { scopes }),
    ...(acrValues && { acrValues }),
    ...(maxAgeS !== undefined && { maxAge: maxAgeS }),
  }
  return {
    prefix,
    loose: prefix.toLowerCase(),
    methods: methods?.includes('GET') ? [...methods, 'HEAD'] : methods,
    rule: Object.freeze(
      access === 'public'
        ? { access, route: path, trace }
        : { access, route: path, trace, requirements, groups, bound },
    ),
  }
}

function isBelow(path: string, prefix: string): boolean {
  return path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === '/')
}
