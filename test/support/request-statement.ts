import type { QueryConfig } from 'pg'

/** Statements of timers: no request waits for them, and they come when they like. */
const besideRequests =
  /^audit-(?:append|keep-months)$|^counted-event-add$|^ping|^logout_deliveries-|^(?:signing-keys|standby)-|-(?:remove|count)-expired$/

/** Whether a request waits for the statement. */
export const isRequestStatement = ({ name }: QueryConfig): boolean =>
  !besideRequests.test(name ?? '')
