import { createHmac, randomBytes } from 'node:crypto'
import Provider, { type KoaContextWithOIDC } from 'oidc-provider'
import { type Artifact, type ArtifactTable, artifactKey } from '../storage/artifact-table.ts'
import { override } from './override.ts'

/*
 * A client that gets no answer to a refresh cannot know whether its token was used. For a moment
 * it may ask again, by the same key, and is given the successor that it should have had: the same
 * one, so that a family has one living token, however often it is asked for.
 *
 * Only digests of tokens are stored, so the successor is not looked up but derived: from the token
 * itself, which the database has not got, and from random bytes in its row, which a thief of the
 * token has not got.
 */

interface RepeatableToken {
  /** Random bytes from which, with the token, its successor is made. */
  succession?: string | undefined
}

const confirmations = ['jkt', 'x5t#S256', 'tbh'] as const

export type RepeatedRefresh = ReturnType<typeof createRepeatedRefresh>

/** @param seconds after the first use for which a refresh may be repeated. */
export function createRepeatedRefresh({
  artifacts,
  seconds,
  now = () => Math.floor(Date.now() / 1000),
}: {
  artifacts: ArtifactTable
  seconds: number
  now?: () => number
}) {
  return {
    /**
     * To the engine a token that comes back in time looks unused: all of its checks are made, the
     * proof by the right key among them, and the statement that consumes it fails.
     */
    excuse(engine: Provider): void {
      override(
        engine,
        'RefreshToken',
        (Base) =>
          class extends Base implements RepeatableToken {
            declare succession?: string | undefined

            static override get IN_PAYLOAD(): string[] {
              return [...super.IN_PAYLOAD, 'succession']
            }

            override async save(): Promise<string> {
              const used = Provider.ctx?.oidc.entities.RotatedRefreshToken as
                | (RepeatableToken & { jti: string })
                | undefined
              if (used?.succession) this.jti = successorOf(used.jti, used.succession)
              this.succession = randomBytes(32).toString('base64url')
              return super.save()
            }

            static override async find<T>(
              value: string,
              options?: { ignoreExpiration?: boolean },
            ): Promise<T | undefined> {
              const token = await super.find(value, options)
              if (
                Provider.ctx?.oidc.route === 'token' &&
                Number(token?.consumed) > now() - seconds
              ) {
                delete token?.consumed
              }
              return token as T | undefined
            }
          },
      )
    },

    /**
     * Whether a request whose refresh token another request has consumed may have its answer all
     * the same: its successor is the stored one, unused, and bound to the key of this request.
     *
     * @param written what the request would have stored.
     */
    async complete(ctx: KoaContextWithOIDC, written: readonly Artifact[]): Promise<boolean> {
      const { RotatedRefreshToken: used, RefreshToken: successor } = ctx.oidc.entities
      if (!used?.isSenderConstrained() || !successor) return false
      const stored = await artifacts.find(artifactKey('RefreshToken', successor.jti))
      if (!stored || stored.consumedAt !== null) return false
      const bound = successor as { [name in (typeof confirmations)[number]]?: string }
      if (confirmations.some((name) => stored.payload[name] !== bound[name])) return false
      const rest = written.filter(({ kind }) => kind !== 'RefreshToken')
      if (rest.length > 0) await artifacts.close({ consumed: undefined, written: rest })
      return true
    },
  }
}

function successorOf(token: string, succession: string): string {
  return createHmac('sha256', succession).update(token).digest('base64url')
}
