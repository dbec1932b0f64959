/** Version of every program of this repository; they are released together. */
export const version = "0.1.0";

/** The guest agent's protocol version, by which clients of the E2B dialect choose features (0.6.4: all of them). */
export const envdVersion = "0.6.4";
