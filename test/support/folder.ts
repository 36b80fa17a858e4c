import { chmodSync, mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { TestFn } from 'ava'

/** Gives a test file a folder of its own, which every user may enter. */
export function useFolder(test: Pick<TestFn, 'after'>): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'holdfast-test-'))
  // Root's PostgreSQL runs as another user, who must get in.
  chmodSync(folder, 0o755)
  test.after.always('removes the folder', () => rm(folder, { recursive: true, force: true }))
  return folder
}
