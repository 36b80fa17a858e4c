/** Whether a URL leads to the machine that asks for it, and to nobody else's. */
export function isLoopback({ hostname }: URL): boolean {
  return ['localhost', '127.0.0.1', '[::1]'].includes(hostname)
}
