import { randomBytes } from 'node:crypto'
import { type ArtifactTable, artifactKey } from '../storage/artifact-table.ts'

/** Seconds for which a code opens the diagnostic endpoint, if its examination does not end first. */
const lifetime = 10 * 60

const key = (code: string) => artifactKey('DoctorCode', code)

export type DoctorCodes = ReturnType<typeof createDoctorCodes>

/** Codes that open the diagnostic endpoint, each for one examination. */
export function createDoctorCodes(artifacts: ArtifactTable) {
  return {
    async issue(): Promise<string> {
      const code = randomBytes(32).toString('base64url')
      await artifacts.write({
        ...key(code),
        grantId: undefined,
        uid: undefined,
        payload: {},
        lifetimeS: lifetime,
      })
      return code
    },

    async isCurrent(code: string): Promise<boolean> {
      return (await artifacts.find(key(code))) !== undefined
    },

    /** The examination is over. */
    end: (code: string): Promise<void> => artifacts.remove(key(code)),
  }
}
