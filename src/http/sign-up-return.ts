/**
 * Leads a browser back to the sign-in that it left to make an account. A cookie names that
 * interaction, whose state is in another cookie of the same browser: the name alone opens nothing, and
 * one that another site has planted leads to a page that is out of date.
 */
import type { Context } from 'koa'
import { lifetimes } from '../config/lifetimes.ts'
import { publicRoutes } from './routes.ts'

export interface SignUpReturn {
  /** Remembers an interaction, if that is what it names. */
  keep(ctx: Pick<Context, 'append'>, interaction: string): void
  /** The path of its sign-in page, below that of this server; undefined where none was left. */
  pathOf(ctx: Pick<Context, 'cookies'>): string | undefined
}

const uid = /^[\w-]{10,60}$/

/** @param base - the public path of this server. */
export function createSignUpReturn({
  issuer,
  base,
}: {
  issuer: string
  base: string
}): SignUpReturn {
  const isSecure = issuer.startsWith('https:')
  const name = `${isSecure ? '__Secure-' : ''}holdfast_sign_up`
  const path = `${base}${publicRoutes.account_link.path.replace('/:token', '')}`
  const attributes = `path=${path}; max-age=${lifetimes.Interaction}; httponly; samesite=lax`
  return {
    keep(ctx, interaction) {
      if (!uid.test(interaction)) return
      ctx.append('set-cookie', `${name}=${interaction}; ${attributes}${isSecure ? '; secure' : ''}`)
    },
    pathOf({ cookies }) {
      const interaction = cookies.get(name) ?? ''
      return uid.test(interaction)
        ? publicRoutes.interaction.path.replace(':uid', interaction)
        : undefined
    },
  }
}
