import type { Config } from '../config/config.ts'
import type { TakenTokens } from '../limits/siblings.ts'

/** What the first process of a node, the primary, says to a worker. */
export type ToWorker =
  | {
      readonly type: 'start'
      readonly number: number
      readonly config: Config
      /** Whether the node starts, and not a worker in the place of one that has ended. */
      readonly isFirstStart: boolean
    }
  | { readonly type: 'ask'; readonly id: number; readonly about: Question }
  | { readonly type: 'taken'; readonly taken: TakenTokens }
  /** From now on it does what one process of a node is enough for. */
  | { readonly type: 'lead' }
  | { readonly type: 'drain' }
  | { readonly type: 'stop' }

/** `live` is answered by anything; `ready` by a reason why not; `metrics` by all of them. */
export type Question = 'live' | 'ready' | 'metrics'

/** Why a worker should get no requests. */
export interface NotReady {
  /** For people, where it may be shown. */
  readonly reason: string | undefined
}

/** What a worker says to the primary. */
export type FromWorker =
  /** It serves; `facts` are for the welcome. */
  | { readonly type: 'serving'; readonly facts: unknown }
  | { readonly type: 'failed'; readonly reason: string }
  | { readonly type: 'answer'; readonly id: number; readonly answer: unknown }
  | { readonly type: 'taken'; readonly taken: TakenTokens }
