import { readFileSync } from 'node:fs'
import type { RequestHandler } from 'express'

/** The version of a package that is installed here. */
export function version(name: string): string {
  const file = new URL(`../../../node_modules/${name}/package.json`, import.meta.url)
  return JSON.parse(readFileSync(file, 'utf8')).version
}

/**
 * express-oauth2-jwt-bearer without its types: they give `auth` of every express request in the
 * program a type of their own.
 */
export async function loadAuth0(): Promise<{ auth(options: object): RequestHandler }> {
  const name: string = 'express-oauth2-jwt-bearer'
  return import(name)
}
