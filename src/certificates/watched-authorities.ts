import { stat } from 'node:fs/promises'
import type { AuthorityFiles } from '../config/mtls-config.ts'
import {
  type ClientAuthorities,
  type KnownIntermediates,
  loadClientAuthorities,
} from './client-authorities.ts'

export interface WatchedAuthorities extends ClientAuthorities, Disposable {}

export interface AuthorityWatcher {
  /** The files are in use: at first, and each time that they have changed. */
  onRead(authorities: ClientAuthorities, change: 'first' | 'changed'): void
  /** The files have changed into something that cannot be used; what was read before still is. */
  onUnusable(error: Error): void
  /** A list in use has ended: clients of its authority are refused from here on. */
  onExpired(nextUpdate: number): void
}

/**
 * Authorities and revocation lists from files that are replaced while the server runs, as every
 * list is before it ends. They are looked at again and again, not watched: a change may be of a
 * symbolic link on the way to them (Kubernetes mounts secrets so), or by another machine. Two files
 * that change together may be seen one by one: then the pair is refused, and read once more.
 *
 * @throws CertificateFileError where the files cannot be used at first.
 */
export async function watchClientAuthorities(
  files: AuthorityFiles,
  { onRead, onUnusable, onExpired }: AuthorityWatcher,
  { interval = 2_000, now = Date.now }: { interval?: number; now?: () => number } = {},
): Promise<WatchedAuthorities> {
  let seen = await versionOf(files)
  const known: KnownIntermediates = new Map()
  let current = await loadClientAuthorities(files, known)
  let reported: number | undefined
  onRead(current, 'first')
  reportIfExpired()

  function reportIfExpired(): void {
    const { nextUpdate } = current
    if (nextUpdate === undefined || now() < nextUpdate || reported === nextUpdate) return
    reported = nextUpdate
    onExpired(nextUpdate)
  }

  async function look(): Promise<void> {
    // Taken before they are read: what is written meanwhile is seen the next time.
    const version = await versionOf(files)
    if (version !== seen) {
      seen = version
      try {
        current = await loadClientAuthorities(files, known)
        onRead(current, 'changed')
      } catch (error) {
        // Whatever a file does to its reader, the server keeps what it has.
        onUnusable(error as Error)
      }
    }
    reportIfExpired()
  }

  let looking = false
  const timer = setInterval(async () => {
    if (looking) return
    looking = true
    await look().finally(() => {
      looking = false
    })
  }, interval)
  timer.unref()
  return {
    check: (...certificate) => current.check(...certificate),
    get nextUpdate() {
      return current.nextUpdate
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
}

/** Changes whenever a file does, or goes away. */
async function versionOf({ authorityFile, revocationFile }: AuthorityFiles): Promise<string> {
  const names = [authorityFile, ...(revocationFile === undefined ? [] : [revocationFile])]
  const versions = names.map(async (name) => {
    const found = await stat(name, { bigint: true }).catch(() => undefined)
    return found ? [found.ino, found.size, found.mtimeNs, found.ctimeNs].join() : 'none'
  })
  return (await Promise.all(versions)).join(' ')
}
