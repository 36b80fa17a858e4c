import { serveAsWorker } from './commands/serve-worker.ts'

await serveAsWorker()
