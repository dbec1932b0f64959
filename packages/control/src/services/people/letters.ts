/** A letter before it is set: paragraphs, and perhaps a button. */
export type Letter = {
  subject: string;
  recipient: string;
  name: string;
  paragraphs: readonly string[];
  button?: { text: string; url: string };
};

/** A letter as it is sent. */
export type Mail = { text: string; html: string };

const closing = "If you did not expect this mail, you can ignore it.";

/** Sets a letter as text and as HTML; whatever people typed is escaped. */
export function compose({ name, paragraphs, button }: Letter): Mail {
  const greeting = `Hello ${name},`;
  const link = button ? [`${button.text}: ${button.url}`] : [];
  const block = (text: string) => `<p>${escaped(text)}</p>`;
  const anchor = button
    ? `<p><a href="${escaped(button.url)}" style="display:inline-block;padding:10px 18px;border-radius:6px;background:#111;color:#fff;text-decoration:none">${escaped(button.text)}</a></p><p style="color:#666;font-size:12px">${escaped(button.url)}</p>`
    : "";
  return {
    text: `${[greeting, ...paragraphs, ...link, closing].join("\n\n")}\n`,
    html: `<!doctype html><html><body style="font-family:sans-serif;max-width:36em">${block(greeting)}${paragraphs.map(block).join("")}${anchor}${block(closing)}</body></html>`,
  };
}

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text: string): string => text.replace(/[&<>"']/g, (sign) => entities[sign]!);

type Person = { email: string; name: string };
const to = ({ email, name }: Person) => ({ recipient: email, name });

/** Every letter there is (Wrenn control plane 12). */
export const letters = {
  activation: (person: Person, url: string): Letter => ({
    ...to(person),
    subject: "Activate your Wrenn account",
    paragraphs: ["Welcome to Wrenn. Activate your account within 30 minutes."],
    button: { text: "Activate account", url },
  }),
  reset: (person: Person, url: string): Letter => ({
    ...to(person),
    subject: "Reset your Wrenn password",
    paragraphs: ["Somebody asked to reset your password. The link works for 15 minutes, once."],
    button: { text: "Choose a new password", url },
  }),
  passwordChanged: (person: Person): Letter => ({
    ...to(person),
    subject: "Your Wrenn password was changed",
    paragraphs: [
      "The password of your account was changed, and every other session was ended.",
      "If it was not you, reset your password now and tell your administrator.",
    ],
  }),
  secondFactor: (person: Person, isOn: boolean): Letter => ({
    ...to(person),
    subject: `Your second factor was turned ${isOn ? "on" : "off"}`,
    paragraphs: [
      isOn
        ? "From now on a code of your authenticator is asked for when you sign in."
        : "From now on your password alone signs you in.",
    ],
  }),
  deletionRequested: (person: Person, days: number): Letter => ({
    ...to(person),
    subject: "Your Wrenn account was deleted",
    paragraphs: [`Your account is closed. What is left of it is erased within ${days} days.`],
  }),
  erased: (person: Person): Letter => ({
    ...to(person),
    subject: "Your Wrenn account was erased",
    paragraphs: ["Nothing of your account is stored any more."],
  }),
  teamCreated: (person: Person, team: string): Letter => ({
    ...to(person),
    subject: `The team ${team} was created`,
    paragraphs: [`You created the team ${team} and own it.`],
  }),
  addedToTeam: (person: Person, team: string, url: string): Letter => ({
    ...to(person),
    subject: `You were added to the team ${team}`,
    paragraphs: [`You are now a member of the team ${team}.`],
    button: { text: "Open Wrenn", url },
  }),
  invitation: (email: string, { team, by, url }: { team: string; by: string; url: string }): Letter => ({
    recipient: email,
    name: email,
    subject: `${by} invites you to the team ${team}`,
    paragraphs: [`${by} invites you to the team ${team} on Wrenn. The invitation is open for 7 days.`],
    button: { text: "Accept the invitation", url },
  }),
} as const;
