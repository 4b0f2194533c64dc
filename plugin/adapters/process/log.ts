/**
 * {@link LogPort} over winston: JSON lines on stdout with the syslog priority prefix that journald understands (sd-daemon(3)) when it runs
 * under systemd. One line per transition; nothing per packet.
 */
import winston from "winston";
import type { LogPort } from "../../driver/ports.js";

const priority: Readonly<Record<string, number>> = { error: 3, warn: 4, info: 6, debug: 7 };

export interface LeveledLog extends LogPort {
  setLevel(level: string): void;
}

/** @param journald prefix lines with `<N>`. */
export function logAdapter(level: string, journald: boolean): LeveledLog {
  const line = winston.format.printf((info) => {
    const { level: l, message, timestamp, ...rest } = info;
    const text = JSON.stringify({ timestamp, level: l, message, ...rest });
    return journald ? `<${priority[l] ?? 6}>${text}` : text;
  });
  const logger = winston.createLogger({
    level,
    format: winston.format.combine(winston.format.errors({ stack: true }), winston.format.timestamp(), line),
    transports: [new winston.transports.Console({ stderrLevels: [] })],
  });
  // a closed terminal or pipe must not end a router: its lines are lost then
  process.stdout.on("error", () => {});
  return {
    info: (message, fields) => void logger.info(message, fields ?? {}),
    warn: (message, fields) => void logger.warn(message, fields ?? {}),
    error: (message, fields) => void logger.error(message, fields ?? {}),
    setLevel: (to) => {
      logger.level = to;
    },
  };
}
